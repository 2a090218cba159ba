"""Exports of tools are trained and evaluated with only `--config.data.train=FOLDER`."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from ssd_jax.config.schema import as_config
from ssd_jax.data.formats.shapes import CLASS_NAMES, draw_example
from ssd_jax.runs.train import train
from tests import tiny
from tests.helpers.commands import run_command

pytestmark = pytest.mark.slow

# Of an image: the name of each object, and its box in pixels.
Objects = list[tuple[str, list[float]]]


def write_image(path: Path, number: int) -> tuple[tuple[int, int], Objects]:
    """Writes one image of shapes; returns its width and height, and its objects."""
    encoded, boxes, labels = draw_example("test", number)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(encoded.getvalue())
    width, height = Image.open(encoded).size
    in_pixels = (boxes * (width, height, width, height)).round(1).tolist()
    names = [CLASS_NAMES[label] for label in labels]
    return (width, height), list(zip(names, in_pixels, strict=True))


def write_text(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


def roboflow_coco(root: Path) -> None:
    """One annotation file a split, the project's name as a category of its own."""
    names = ["shapes", *CLASS_NAMES]
    for split, numbers in (("train", range(8)), ("valid", range(8, 12))):
        images, annotations = [], []
        for number in numbers:
            name = f"shape-{number}_jpg.rf.{number:032x}.jpg"
            (width, height), objects = write_image(root / split / name, number)
            images.append({"id": number, "file_name": name, "height": height, "width": width})
            for label, (x_min, y_min, x_max, y_max) in objects:
                annotations.append(
                    {
                        "id": len(annotations),
                        "image_id": number,
                        "category_id": names.index(label),
                        "bbox": [x_min, y_min, x_max - x_min, y_max - y_min],
                        "area": (x_max - x_min) * (y_max - y_min),
                        "segmentation": [],
                        "iscrowd": 0,
                    }
                )
        categories = [{"id": i, "name": name} for i, name in enumerate(names)]
        content = {"categories": categories, "images": images, "annotations": annotations}
        write_text(root / split / "_annotations.coco.json", json.dumps(content))


def roboflow_yolo(root: Path) -> None:
    """A `data.yaml` whose paths begin above it."""
    for split, numbers in (("train", range(8)), ("valid", range(8, 12))):
        for number in numbers:
            stem = f"shape-{number}_jpg.rf.{number:032x}"
            (width, height), objects = write_image(root / split / "images" / f"{stem}.jpg", number)
            lines = [
                f"{CLASS_NAMES.index(label)} {(box[0] + box[2]) / 2 / width} "
                f"{(box[1] + box[3]) / 2 / height} {(box[2] - box[0]) / width} "
                f"{(box[3] - box[1]) / height}"
                for label, box in objects
            ]
            write_text(root / split / "labels" / f"{stem}.txt", "\n".join(lines))
    text = "train: ../train/images\nval: ../valid/images\ntest: ../test/images\n\n"
    write_text(root / "data.yaml", f"{text}nc: 5\nnames: {list(CLASS_NAMES)}\n")


def cvat(root: Path) -> None:
    """A task with subfolders and blanks in names."""
    elements = []
    for number in range(12):
        name = f"day {number % 2 + 1}/image ({number}).jpg"
        (width, height), objects = write_image(root / "images" / name, number)
        boxes = "".join(
            f'<box label="{label}" source="manual" occluded="0" xtl="{box[0]}" ytl="{box[1]}" '
            f'xbr="{box[2]}" ybr="{box[3]}" z_order="0"></box>'
            for label, box in objects
        )
        elements.append(
            f'<image id="{number}" name="{name}" width="{width}" height="{height}">{boxes}</image>'
        )
    head = '<?xml version="1.0" encoding="utf-8"?><annotations><version>1.1</version>'
    write_text(root / "annotations.xml", f"{head}{''.join(elements)}</annotations>")


def labelimg(root: Path) -> None:
    """XML files next to the images."""
    for number in range(12):
        (width, height), objects = write_image(root / f"image {number}.jpg", number)
        text = "".join(
            f"<object><name>{label}</name><pose>Unspecified</pose><bndbox><xmin>{box[0]:.0f}</xmin>"
            f"<ymin>{box[1]:.0f}</ymin><xmax>{box[2]:.0f}</xmax><ymax>{box[3]:.0f}</ymax></bndbox>"
            "</object>"
            for label, box in objects
        )
        write_text(
            root / f"image {number}.xml",
            f"<annotation><filename>image {number}.jpg</filename><size><width>{width}</width>"
            f"<height>{height}</height><depth>3</depth></size>{text}</annotation>",
        )


def labelme(root: Path) -> None:
    """A JSON file next to each image."""
    for number in range(12):
        (width, height), objects = write_image(root / f"{number}.jpg", number)
        shapes = [
            {"label": label, "points": [box[:2], box[2:]], "shape_type": "rectangle", "flags": {}}
            for label, box in objects
        ]
        content = {"version": "5.4.1", "flags": {}, "shapes": shapes, "imageData": None}
        content |= {"imagePath": f"{number}.jpg", "imageHeight": height, "imageWidth": width}
        write_text(root / f"{number}.json", json.dumps(content))


@pytest.mark.parametrize(
    "write, evaluated",
    [(roboflow_coco, 4), (roboflow_yolo, 4), (cvat, 2), (labelimg, 2), (labelme, 2)],
)
def test_the_name_of_a_folder_suffices(
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    write: Callable[[Path], None],
    evaluated: int,
) -> None:
    folder, workdir = tmp_path / "my export, v1", tmp_path / "run"
    write(folder)
    if write is roboflow_coco:  # as a user does it
        said = run_command(
            "train",
            "--config=tests/tiny.py",
            "--config.eval_every=99",
            f"--workdir={workdir}",
            f"--config.data.train={folder}",
        ).stderr
    else:
        caplog.set_level("INFO", "ssd_jax")
        config = as_config(tiny.get_config())
        train(config.replace({"data.train": str(folder), "eval_every": 99}), workdir)
        said = caplog.text
    table = [line.split() for line in said.splitlines()]
    assert ["images", str(12 - evaluated), str(evaluated)] in table
    classes = [entry["name"] for entry in json.loads((workdir / "classes.json").read_text())]
    assert sorted(classes) == sorted(CLASS_NAMES)
    lines = [json.loads(line) for line in (workdir / "metrics.jsonl").open()]
    assert any("eval/mAP" in line for line in lines)
    # Images are only cut off where the export has no split of its own.
    assert (workdir / "split.json").exists() == (evaluated == 2)
