"""COCO's JSON in the layouts of the tools that write it, also with missing fields."""

import itertools
import json
import logging

import pytest

from ssd_jax.data.sources import open_dataset
from ssd_jax.errors import UserError
from tests.helpers.pictures import write_picture
from tests.helpers.read_boxes import read_boxes
from tests.helpers.reference_results import shared

CATEGORIES = [{"id": 1, "name": "cat"}]
THE_BOX = [6, 4, 30, 20]


def write(path, *names, below=None, **change):
    """An annotation file with an object in every image, and the images, below `below`."""
    images = [
        {"id": i, "file_name": name, "width": 60, "height": 40} for i, name in enumerate(names)
    ]
    entries = [
        {"id": i, "image_id": i, "category_id": 1, "bbox": [6, 4, 24, 16]}
        for i in range(len(images))
    ]
    content = {"images": images, "annotations": entries, "categories": CATEGORIES} | change
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({key: value for key, value in content.items() if value is not ...}))
    for name in names if below is not None else ():
        write_picture(below / name.replace("\\", "/"))
    return f"coco_json:{path}:{below}"


def one(path, entry=None, image=None, **change):
    """A file with one image whose entries have other fields; its spec."""
    entry = {"image_id": 0, "category_id": 1, "bbox": [6, 4, 24, 16]} | (entry or {})
    image = {"id": 0, "file_name": "a.jpg", "width": 60, "height": 40} | (image or {})
    entry, image = (
        {key: value for key, value in each.items() if value is not ...} for each in (entry, image)
    )
    spec = write(path / "a.json", images=[image], annotations=[entry], **change)
    write_picture(path / "images/a.jpg")
    return spec.replace(":None", f":{path / 'images'}")


# ---- where the files lie


LAYOUTS = {
    "roboflow": {"train": "train/_annotations.coco.json", "valid": "valid/_annotations.coco.json"},
    "coco": {
        "train2017": "annotations/instances_train2017.json",
        "val2017": "annotations/instances_val2017.json",
    },
    "split folders": {
        "images/train": "annotations/train.json",
        "images/val": "annotations/val.json",
    },
    "unzipped into a folder": {
        "my-set/train": "my-set/train/_annotations.coco.json",
        "my-set/test": "my-set/test/_annotations.coco.json",
    },
    "fiftyone": {"train/data": "train/labels.json", "validation/data": "validation/labels.json"},
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_the_splits_of_a_folder(tmp_path, layout):
    files = LAYOUTS[layout]
    specs = [
        write(tmp_path / file, f"{i}.jpg", f"{i}b.jpg", below=tmp_path / folder)
        for i, (folder, file) in enumerate(files.items())
    ]
    for spec, role in zip(specs, ("train", "eval"), strict=True):
        expected = read_boxes(spec)
        assert list(expected) == ["0", "1"] and expected["0"] == [("cat", THE_BOX)]
        assert read_boxes(str(tmp_path), role=role) == expected
        first = open_dataset(str(tmp_path), role=role)[0]
        assert first.path == open_dataset(spec)[0].path


@pytest.mark.parametrize(
    "file, names, folder",
    [
        ("annotations/instances_default.json", ["a b.jpg", "sub/c.jpg"], "images"),
        ("result.json", ["images/a.jpg"], ""),
        ("result.json", ["images\\a.jpg"], ""),
        ("labels.json", ["a.jpg"], "data"),
        ("ann.json", ["a.jpg"], "JPEGImages"),
        ("annotations.json", ["a.jpg"], ""),
    ],
)
def test_a_set_without_splits(tmp_path, file, names, folder):
    spec = write(tmp_path / file, *names, below=tmp_path / folder)
    expected = read_boxes(spec)
    assert list(expected) == [str(i) for i in range(len(names))]
    assert read_boxes(str(tmp_path), role="train") == expected
    if file.count("/") == 0:
        assert read_boxes(str(tmp_path / file), role="train") == expected


def test_other_annotation_files_of_coco_are_ignored(tmp_path):
    spec = write(
        tmp_path / "annotations/instances_val2017.json", "a.jpg", below=tmp_path / "val2017"
    )
    write(tmp_path / "annotations/person_keypoints_val2017.json", "a.jpg")
    write(tmp_path / "annotations/image_info_val2017.json", "a.jpg", annotations=...)
    write(tmp_path / "annotations/captions_val2017.json", "a.jpg", categories=...)
    segments = [{"image_id": 0, "file_name": "a.png", "segments_info": []}]
    write(tmp_path / "annotations/panoptic_val2017.json", "a.jpg", annotations=segments)
    assert read_boxes(str(tmp_path), role="eval") == read_boxes(spec)


def test_files_of_other_kinds_are_no_coco_files(tmp_path):
    spec = write(tmp_path / "ann.json", "a.jpg", below=tmp_path / "images")
    (tmp_path / "package.json").write_text('{"images": []}')
    (tmp_path / "results.json").write_text('[{"image_id": 0, "bbox": [1, 2, 3, 4]}]')
    (tmp_path / "broken.json").write_text('{"x": ')
    assert read_boxes(str(tmp_path)) == read_boxes(spec)


@pytest.mark.parametrize(
    "order", list(itertools.permutations(("images", "annotations", "categories")))
)
def test_large_files_are_known_by_their_beginning_and_end(tmp_path, monkeypatch, order):
    monkeypatch.setattr("ssd_jax.data.formats.coco_files.WHOLE_BYTES", 100)
    monkeypatch.setattr("ssd_jax.data.formats.coco_files.LOOK_BYTES", 400)
    monkeypatch.setattr("ssd_jax.data.formats.coco_files.FIRST_BYTES", 200)
    names = [f"{i}ü.jpg" for i in range(20)]
    file = tmp_path / "annotations/instances_train.json"
    spec = write(file, *names, below=tmp_path / "train")
    content = json.loads(file.read_text())
    file.write_text(json.dumps({key: content[key] for key in order}))
    assert read_boxes(str(tmp_path), role="train") == read_boxes(spec)


def test_a_file_in_a_folder_of_annotations(tmp_path):
    file = tmp_path / "annotations/instances_val.json"
    spec = write(file, "a.jpg", below=tmp_path / "val")
    write(tmp_path / "annotations/instances_train.json", "a.jpg", below=tmp_path / "train")
    assert read_boxes(str(file)) == read_boxes(spec)


def test_images_of_several_folders_of_one_file(tmp_path):
    write(tmp_path / "ann.json", "a.jpg", "b.jpg")
    write_picture(tmp_path / "imgs/x/a.jpg")
    write_picture(tmp_path / "imgs/y/b.jpg")
    write_picture(tmp_path / "others/c.jpg")
    assert list(read_boxes(str(tmp_path))) == ["0", "1"]


def test_folders_of_masks_are_not_those_of_the_images(tmp_path):
    spec = write(tmp_path / "ann.json", "a.png", below=tmp_path / "photos")
    write_picture(tmp_path / "masks/a.png", 60, 40)
    assert open_dataset(str(tmp_path))[0].path == open_dataset(spec)[0].path


@pytest.mark.parametrize("name", ["my-test-project", "val_of_trees"])
def test_a_folder_with_other_words_is_not_a_split(tmp_path, name):
    spec = write(tmp_path / name / "instances_default.json", "a.jpg", below=tmp_path / name)
    assert read_boxes(str(tmp_path), role="train") == read_boxes(spec)


def test_two_files_of_one_split_are_refused_with_both(tmp_path):
    write(tmp_path / "train.json", "a.jpg", below=tmp_path / "images")
    write(tmp_path / "old/train.json", "a.jpg")
    with pytest.raises(UserError, match=r"/train\.json and .*/old/train\.json both"):
        open_dataset(str(tmp_path))


def test_two_folders_of_the_same_images_are_refused_with_both(tmp_path):
    write(tmp_path / "train.json", "a.jpg", below=tmp_path / "large")
    write(tmp_path / "train.json", "a.jpg", below=tmp_path / "small")
    with pytest.raises(UserError, match=r"train\.json:.*/large or .*train\.json:.*/small"):
        open_dataset(str(tmp_path))


def test_several_sets_of_one_layout_join(tmp_path):
    for name in ("one", "two"):
        path = tmp_path / name / "train/_annotations.coco.json"
        write(path, f"{name}.jpg", below=path.parent)
    paths = [record.path for record in open_dataset(str(tmp_path), role="train")]
    assert [path.rpartition("/")[2] for path in paths] == ["one.jpg", "two.jpg"]


def test_coco_tiny_as_a_folder():
    folder = shared("data/coco_tiny")
    for role, split in (("train", "train2017"), ("eval", "val2017")):
        spec = f"coco_json:{folder}/annotations/instances_{split}.json:{folder}/{split}"
        assert read_boxes(str(folder), role=role) == read_boxes(spec)


# ---- what the entries lack


@pytest.mark.parametrize(
    "entry",
    [
        {"bbox": ["6", "4.0", "24", "1.6e1"]},
        {"category_id": "1", "image_id": "0"},
        {"category_id": 1.0, "image_id": 0.0},
        {"iscrowd": "0", "area": "384.0"},
        {"iscrowd": None, "area": "", "ignore": None},
        {"bbox": ..., "segmentation": [[6, 4, 30, 4, 30, 20], [6, 20, 10, 10]]},
        {"bbox": None, "segmentation": ["6", 4, 30, 20]},
        {"bbox": [], "segmentation": {"size": [40, 60], "counts": [244, 16, 904, 16, 1220]}},
        {"bbox": [], "segmentation": {"size": [40, 60], "counts": "d7`0Xl00l9"}},
    ],
)
def test_entries_as_exporters_write_them(tmp_path, entry):
    assert read_boxes(one(tmp_path, entry)) == {"0": [("cat", THE_BOX)]}


@pytest.mark.parametrize(
    "image",
    [
        {"id": "0"},
        {"width": "60", "height": "40.0"},
        {"width": ..., "height": ...},
        {"width": 0, "height": 0},
        {"width": None, "height": ""},
        {"file_name": "./a.jpg"},
        {"file_name": "images/a.jpg"},
        {"file_name": ".\\images\\A.JPG"},
        {"file_name": "a"},
        {"file_name": ..., "coco_url": "http://images.example.org/train/a.jpg"},
    ],
)
def test_images_as_exporters_write_them(tmp_path, image):
    assert read_boxes(one(tmp_path, image=image)) == {"0": [("cat", THE_BOX)]}


@pytest.mark.parametrize("is_set", [1, "1", True, "true"])
def test_crowds_and_ignored_objects(tmp_path, is_set):
    (record,) = open_dataset(one(tmp_path, {"iscrowd": is_set, "ignore": is_set}))
    assert record.crowd.tolist() == [True] and record.difficult.tolist() == [True]


@pytest.mark.parametrize("entries", [..., None, []])
def test_a_file_without_annotations_has_images_without_objects(tmp_path, entries):
    spec = write(tmp_path / "a.json", "a.jpg", below=tmp_path / "images", annotations=entries)
    assert read_boxes(spec, "cat") == {"0": []}


def test_repeated_categories_and_names_with_two_ids_are_merged(tmp_path, caplog, monkeypatch):
    monkeypatch.setattr(logging.getLogger("ssd_jax"), "propagate", True)
    spec = one(tmp_path, categories=CATEGORIES * 2)
    assert open_dataset(spec).class_names == ("cat",) and not caplog.text
    spec = one(tmp_path, categories=[*CATEGORIES, {"id": 2, "name": " cat "}])
    dataset = open_dataset(spec)
    assert dataset.class_names == ("cat",) and dataset.category_ids == (1,)
    assert "the categories 1 and 2 have the same name, cat" in caplog.text


def test_two_names_of_one_id_are_refused(tmp_path):
    spec = one(tmp_path, categories=[*CATEGORIES, {"id": "1", "name": "dog"}])
    with pytest.raises(
        UserError, match=r"a\.json: the categories 'cat' and 'dog' have the same id, 1"
    ):
        open_dataset(spec)


def test_an_image_that_two_entries_have_is_refused(tmp_path):
    spec = write(tmp_path / "a.json", "a.jpg", "./a.jpg", below=tmp_path / "images")
    with pytest.raises(UserError, match=r"the images 0 and 1 are both './a\.jpg'"):
        open_dataset(spec)
