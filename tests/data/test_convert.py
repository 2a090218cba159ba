import logging

import numpy as np
import pytest

from ssd_jax.data.convert import convert_data, training_source
from ssd_jax.data.file_tree import FileTree
from ssd_jax.data.sources import open_dataset, resolve
from ssd_jax.errors import UserError
from tests.data.formats.files import write_files
from tests.helpers.commands import run_command
from tests.helpers.pictures import VocFolder, write_coco, write_picture

CONTENT = {
    "images": [
        {"id": 7, "file_name": "vid1/a.jpg", "width": 60, "height": 40},
        {"id": 8, "file_name": "vid2/a.jpg", "width": 50, "height": 50},
        {"id": 9, "file_name": "b (1).png", "width": 33, "height": 31},
    ],
    "categories": [{"id": 3, "name": "big dog"}, {"id": 17, "name": "Löwe & <cat>"}],
    "annotations": [
        {"id": 1, "image_id": 7, "category_id": 3, "bbox": [6.25, 4.123, 30, 20.5], "iscrowd": 0},
        {"id": 2, "image_id": 7, "category_id": 17, "bbox": [0, 0, 60, 40], "iscrowd": 1},
        {"id": 3, "image_id": 8, "category_id": 17, "bbox": [10, 20, 40, 30], "ignore": 1},
        {"id": 4, "image_id": 8, "category_id": 3, "bbox": [10, 20, 60, 10], "area": 123.5},
    ],
}


@pytest.fixture
def source(tmp_path):
    return write_coco(tmp_path / "train", CONTENT)


def in_pixels(record):
    height, width = record.size
    return record.boxes * (width, height, width, height)


@pytest.mark.parametrize("target", ["coco", "voc", "yolo"])
def test_a_written_data_set_is_read_back_unchanged(source, tmp_path, target):
    converted = convert_data(source, target, tmp_path / "out")
    assert dict(converted.images) == {"train": 3}
    before, after = open_dataset(source), open_dataset(str(tmp_path / "out"))
    (named,) = resolve(str(tmp_path / "out"))
    assert named.found.format == {"coco": "coco_json", "voc": "voc_xml", "yolo": "yolo"}[target]
    assert after.class_names == before.class_names if target != "voc" else True
    assert set(after.class_names) == {"big dog", "Löwe & <cat>"}
    by_size = {record.size: record for record in after}
    for record in before:
        other = by_size[record.size]
        kept = ~record.crowd if target != "coco" else np.ones(len(record.crowd), bool)
        names = [before.class_names[label - 1] for label in record.labels[kept]]
        assert [after.class_names[label - 1] for label in other.labels] == names
        np.testing.assert_allclose(in_pixels(other), in_pixels(record)[kept], atol=2e-3)
        if target != "yolo":
            assert other.difficult.tolist() == record.difficult[kept].tolist()
        if target == "coco":
            assert other.crowd.tolist() == record.crowd.tolist()
            known = ~np.isnan(record.area)
            np.testing.assert_allclose(other.area[known], record.area[known])
        with open(record.path, "rb") as old, open(other.path, "rb") as new:
            assert old.read() == new.read()
    if target == "coco":
        assert after.category_ids == (3, 17)


def test_names_of_images_from_several_folders_are_unique(source, tmp_path):
    convert_data(source, "yolo", tmp_path / "out")
    files = FileTree(tmp_path / "out").files
    assert [file for file in files if file.startswith("images/")] == [
        "images/train/8.jpg",
        "images/train/a.jpg",
        "images/train/b (1).png",
    ]
    assert (tmp_path / "out/labels/train/b (1).txt").read_text() == ""
    assert (tmp_path / "out/labels/train/8.txt").read_text().splitlines() == [
        "1 0.600000 0.700000 0.800000 0.600000",
        "0 0.600000 0.500000 0.800000 0.200000",
    ]


def test_flags_that_a_target_lacks_are_reported(source, tmp_path, caplog, monkeypatch):
    monkeypatch.setattr(logging.getLogger("ssd_jax"), "propagate", True)
    convert_data(source, "yolo", tmp_path / "yolo")
    assert "left out 1 crowd: yolo has no flag for crowds" in caplog.text
    assert (
        "wrote 1 difficult object without the flag 'difficult': yolo has no such flag"
        in caplog.text
    )
    caplog.clear()
    convert_data(source, "coco", tmp_path / "coco")
    assert "crowds" not in caplog.text and "difficult" not in caplog.text


def test_damaged_image_files_are_copied_and_reported(source, tmp_path, caplog, monkeypatch):
    monkeypatch.setattr(logging.getLogger("ssd_jax"), "propagate", True)
    file = next(tmp_path.rglob("vid2/a.jpg"))
    file.write_bytes(file.read_bytes()[:-200])
    converted = convert_data(source, "coco", tmp_path / "out")
    assert dict(converted.images) == {"train": 3}
    (told,) = [text for text in caplog.messages if "decoded" in text]
    assert told.startswith("1 image cannot be decoded") and told.endswith(f": {file}")


def test_every_split_stays_one_and_trainval_is_left_out(tmp_path, caplog, monkeypatch):
    monkeypatch.setattr(logging.getLogger("ssd_jax"), "propagate", True)
    voc = VocFolder(tmp_path / "voc")
    for number, image_id in enumerate("abc"):
        voc.add(image_id, [("dog", 6, 4, 30, 20 + number)])
    listed = {"train": "a", "val": "b", "trainval": "ab", "test": "c"}
    sources = [voc.split(name, *images) for name, images in listed.items()]
    converted = convert_data(str(tmp_path / "voc"), "coco", tmp_path / "folder")
    assert dict(converted.images) == {"train": 1, "val": 1, "test": 1}
    converted = convert_data(",".join(sources), "coco", tmp_path / "out")
    assert dict(converted.images) == {"train": 1, "val": 1, "test": 1}
    assert "left out the split trainval" in caplog.text
    training = open_dataset(training_source(converted, tmp_path / "out"), role="train")
    assert [record.image_id for record in training] == ["1"]
    np.testing.assert_allclose(in_pixels(training[0]), [[6, 4, 30, 20]], rtol=1e-6)


def test_classes_are_chosen_and_renamed(source, tmp_path):
    converted = convert_data(source, "voc", tmp_path / "out", ("dog",), {"big dog": "dog"})
    assert converted.class_names == ("dog",)
    assert sum(converted.objects.values()) == 2
    assert open_dataset(str(tmp_path / "out")).class_names == ("dog",)


def test_folders_that_are_there_are_not_written_to(source, tmp_path):
    write_picture(tmp_path / "full" / "a.jpg")
    with pytest.raises(UserError, match="not empty: name another folder"):
        convert_data(source, "coco", tmp_path / "full")
    (tmp_path / "out.tmp").mkdir()
    with pytest.raises(UserError, match=r"out\.tmp is from an interrupted conversion"):
        convert_data(source, "coco", tmp_path / "out")
    with pytest.raises(UserError, match="only coco, voc, yolo, shards"):
        convert_data(source, "csv", tmp_path / "new")
    (tmp_path / "a, b").symlink_to(tmp_path / "train")
    with pytest.raises(UserError, match=r"is inside .*a, b of --source"):
        convert_data(str(tmp_path / "a, b"), "coco", tmp_path / "a, b" / "new")
    (tmp_path / "empty").mkdir()
    convert_data(source, "coco", tmp_path / "empty")
    assert (tmp_path / "empty" / "annotations" / "instances_train.json").is_file()


def test_the_current_folder_can_be_written(source, tmp_path, monkeypatch):
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    convert_data(source, "coco", ".")
    assert (tmp_path / "here" / "annotations" / "instances_train.json").is_file()


def test_names_with_outer_blanks_can_be_in_lists(tmp_path):
    images = [{"id": i, "file_name": f"{name}.jpg"} for i, name in enumerate([" a", "a", "b "])]
    objects = [{"image_id": i, "category_id": 1, "bbox": [5, 5, 30, 30]} for i in range(3)]
    content = {"images": images, "annotations": objects, "categories": [{"id": 1, "name": "dog"}]}
    write_files(tmp_path / "source", {"ann.json": content} | {i["file_name"]: None for i in images})
    convert_data(str(tmp_path / "source"), "voc", tmp_path / "out")
    records = open_dataset(str(tmp_path / "out"))
    assert sorted(record.image_id for record in records) == ["1", "a", "b"]


def test_a_failed_conversion_leaves_no_files(source, tmp_path, monkeypatch):
    def fail(*arguments):
        raise OSError("disk full")

    monkeypatch.setattr("shutil.copyfile", fail)
    with pytest.raises(OSError, match="disk full"):
        convert_data(source, "coco", tmp_path / "out")
    assert not (tmp_path / "out").exists() and not (tmp_path / "out.tmp").exists()


def test_the_embedded_set_has_no_files_and_is_written(tmp_path):
    converted = convert_data("shapes:test[:3]", "voc", tmp_path / "out")
    assert dict(converted.images) == {"test": 3}
    assert training_source(converted, "out") == "out:test"
    open_dataset(training_source(converted, tmp_path / "out"), role="train")
    before, after = open_dataset("shapes:test[:3]"), open_dataset(str(tmp_path / "out"))
    for record, other in zip(before, after, strict=True):
        height, width = other.size
        np.testing.assert_allclose(record.boxes, other.boxes, atol=1e-3 / min(height, width))


def test_the_command_prints_the_training_command(source, tmp_path):
    flags = (f"--source={source}", "--to=yolo", f"--output={tmp_path}/out")
    done = run_command("convert-data", *flags)
    assert "train: 3 images, 3 objects" in done.stdout
    assert f"train with: ssd-jax train --data={tmp_path}/out" in done.stdout
    wrong = run_command("convert-data", *flags, "--class_map=dog", expect=1)
    assert wrong.stderr.startswith("error: ") and "class_map has the entry 'dog'" in wrong.stderr
    again = run_command("convert-data", *flags, expect=1)
    assert again.stderr.startswith("error: ") and "not empty" in again.stderr
