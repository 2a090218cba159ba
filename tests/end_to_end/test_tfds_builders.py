"""The configs of VOC and COCO on their own data, through TFDS's own builders.

Only the downloads are replaced: small archives in the layout of the real ones are in TFDS's folder
of downloads, with the names of finished downloads.
"""

import io
import json
import os
import subprocess
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ssd_jax.config.files import load_config
from ssd_jax.data import class_lists
from tests.helpers import forked

tfds = pytest.importorskip("tensorflow_datasets")

pytestmark = pytest.mark.slow

VOC_OBJECT = """
  <object><name>{name}</name><pose>Left</pose><truncated>0</truncated><difficult>{hard}</difficult>
    <bndbox><xmin>{box[0]}</xmin><ymin>{box[1]}</ymin><xmax>{box[2]}</xmax><ymax>{box[3]}</ymax></bndbox>
  </object>"""
# Of every image: a car, and a person that is difficult.
CAR, PERSON = (10, 20, 60, 80), (30, 5, 90, 95)
SIZE = (100, 120)  # height and width


def jpeg(seed: int) -> bytes:
    noise = np.random.default_rng(seed).integers(0, 256, (3, 4, 3), dtype=np.uint8)
    image = Image.fromarray(noise).resize(SIZE[::-1], Image.Resampling.BICUBIC)
    file = io.BytesIO()
    image.save(file, "JPEG")
    return file.getvalue()


def voc_files(year: str, splits: dict[str, list[str]], with_annotations: bool) -> dict[str, bytes]:
    """The files in an archive of the devkit."""
    files = {}
    for split, names in splits.items():
        root = f"VOCdevkit/VOC{year}"
        files[f"{root}/ImageSets/Main/{split}.txt"] = "".join(f"{n}\n" for n in names).encode()
        for name in names:
            files[f"{root}/JPEGImages/{name}.jpg"] = jpeg(int(name))
            objects = VOC_OBJECT.format(name="car", hard=0, box=CAR)
            objects += VOC_OBJECT.format(name="person", hard=1, box=PERSON)
            text = f"<annotation><size><width>{SIZE[1]}</width><height>{SIZE[0]}</height></size>"
            if with_annotations:
                annotation = f"{text}{objects}</annotation>".encode()
                files[f"{root}/Annotations/{name}.xml"] = annotation
    return files


def coco_files(split: str, count: int, with_annotations: bool) -> dict[str, bytes]:
    """The annotation file of COCO."""
    images = [
        {"id": 10 + i, "file_name": f"{i:012d}.jpg", "height": SIZE[0], "width": SIZE[1]}
        for i in range(count)
    ]
    content = {
        "images": images,
        "categories": [
            {"id": number, "name": name, "supercategory": "any"}
            for number, name in zip(class_lists.COCO_IDS, class_lists.COCO, strict=True)
        ],
    }
    if with_annotations:
        x_min, y_min, x_max, y_max = CAR
        content["annotations"] = [
            {
                "id": 100 + i,
                "image_id": image["id"],
                "category_id": 90,  # toothbrush, the last of the 80
                "bbox": [x_min, y_min, x_max - x_min, y_max - y_min],
                "area": 1000,
                "iscrowd": 0,
            }
            for i, image in enumerate(images)
        ]
    kind = "instances" if with_annotations else "image_info"
    return {f"annotations/{kind}_{split}.json": json.dumps(content).encode()}


def archive(files: dict[str, bytes], kind: str) -> bytes:
    content = io.BytesIO()
    if kind == "tar":
        with tarfile.open(fileobj=content, mode="w") as tar:
            for name, data in files.items():
                entry = tarfile.TarInfo(name)
                entry.size = len(data)
                tar.addfile(entry, io.BytesIO(data))
    else:
        with zipfile.ZipFile(content, "w") as archived:
            for name, data in files.items():
                archived.writestr(name, data)
    return content.getvalue()


def archives() -> dict[str, bytes]:
    """The archives by the last part of their addresses."""

    def numbers(first: int, count: int) -> list[str]:
        return [f"{number:06d}" for number in range(first, first + count)]

    def images(split: str, count: int) -> dict[str, bytes]:
        return {f"{split}/{i:012d}.jpg": jpeg(i) for i in range(count)}

    trainval_2007 = {"train": numbers(1, 2), "val": numbers(3, 1)}
    trainval_2012 = {"train": numbers(20, 1), "val": numbers(21, 1)}
    annotations = coco_files("train2017", 3, True) | coco_files("val2017", 2, True)
    return {
        "VOCtrainval_06-Nov-2007.tar": archive(voc_files("2007", trainval_2007, True), "tar"),
        "VOCtest_06-Nov-2007.tar": archive(
            voc_files("2007", {"test": numbers(10, 2)}, True), "tar"
        ),
        "VOCtrainval_11-May-2012.tar": archive(voc_files("2012", trainval_2012, True), "tar"),
        "VOC2012test.tar": archive(voc_files("2012", {"test": numbers(30, 1)}, False), "tar"),
        "train2017.zip": archive(images("train2017", 3), "zip"),
        "val2017.zip": archive(images("val2017", 2), "zip"),
        "test2017.zip": archive(images("test2017", 1), "zip"),
        "annotations_trainval2017.zip": archive(annotations, "zip"),
        "image_info_test2017.zip": archive(coco_files("test2017", 1, False), "zip"),
    }


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory) -> Path:
    """A folder for TFDS in which all downloads are done, and nothing else."""
    from tensorflow_datasets.core.download import resource

    folder, contents = tmp_path_factory.mktemp("tfds"), archives()
    for name in ("voc/2007", "voc/2012", "coco/2017"):
        set_name = name.partition("/")[0]
        for url, info in tfds.builder(name, data_dir=folder).url_infos.items():
            content = contents.get(url.rpartition("/")[2])
            if content is not None:
                path = folder / "downloads" / set_name / resource.get_dl_fname(url, info.checksum)
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(content)
                resource.get_info_path(path).write_text("{}")
    return folder


def train(config: str, data_dir: Path, workdir: Path) -> subprocess.CompletedProcess[str]:
    """Trains two steps with the data of the config, and evaluates."""
    return forked.run(
        [
            "train.py",
            f"--config=configs/{config}.py",
            f"--workdir={workdir}",
            "--config.steps=2",
            "--config.batch_size=2",
            "--config.init=",
            "--config.report=False",
            "--config.model.width=0.02",
        ],
        os.environ | {"TFDS_DATA_DIR": str(data_dir)},
    )


@pytest.mark.parametrize(
    "config, classes, ids",
    [
        ("ssd300_voc", class_lists.VOC, range(1, 21)),
        ("ssd300_coco", class_lists.COCO, class_lists.COCO_IDS),
    ],
)
def test_a_published_config_trains_on_its_own_data(data_dir, tmp_path, config, classes, ids):
    done = train(config, data_dir, tmp_path / "run")
    assert done.returncode == 0, done.stderr
    described = json.loads((tmp_path / "run" / "classes.json").read_text())
    assert [entry["name"] for entry in described] == list(classes)
    assert [entry["id"] for entry in described] == list(ids)
    lines = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").open()]
    assert any("eval/mAP" in line for line in lines)


# Writes the records of sources, each to its file. TFDS looks for its folder when it is imported.
WRITE_RECORDS = """
import sys
from ssd_jax.diagnostics.check_data import check_data

for source, file in zip(sys.argv[1::2], sys.argv[2::2], strict=True):
    report = check_data(source, records=file)
    assert not report.problems(), report
"""


def records(sources: list[str], data_dir: Path, folder: Path) -> list[list[dict]]:
    """The records of each source as training reads them, in the order of their names."""
    files = [folder / f"{number}.jsonl" for number in range(len(sources))]
    arguments = [argument for pair in zip(sources, files, strict=True) for argument in pair]
    environment = os.environ | {"TFDS_DATA_DIR": str(data_dir)}
    done = forked.run(["-c", WRITE_RECORDS, *arguments], environment)
    assert done.returncode == 0, done.stderr
    lines = [map(json.loads, file.read_text().splitlines()) for file in files]
    return [sorted(each, key=lambda record: record["image_id"]) for each in lines]


def test_the_records_equal_those_of_the_archives(data_dir, tmp_path):
    voc, coco = (load_config(name).data for name in ("ssd300_voc", "ssd300_coco"))
    train, test, coco = records([voc.train, voc.eval, coco.train], data_dir, tmp_path)
    ids = [[record["image_id"] for record in each] for each in (train, test)]
    assert ids == [["000001", "000002", "000003", "000020", "000021"], ["000010", "000011"]]
    for record in train + test:
        np.testing.assert_allclose(record["boxes"], [CAR, PERSON], atol=1e-2)
        assert (record["height"], record["width"]) == SIZE
        assert record["names"] == ["car", "person"] and record["difficult"] == [False, True]
    assert [record["image_id"] for record in coco] == ["10", "11", "12"]
    for record in coco:
        np.testing.assert_allclose(record["boxes"], [CAR], atol=1e-2)
        assert record["names"] == ["toothbrush"] and record["crowd"] == [False]
