"""Findings about images and boxes together, and the records that a check writes."""

import collections
import json
import shutil

import numpy as np
import pytest
from PIL import Image

from ssd_jax.diagnostics.check_data import check_data
from ssd_jax.diagnostics.check_report import format_report
from ssd_jax.errors import UserError
from tests.helpers.pictures import VocFolder, write_coco, write_picture

DOG = ("dog", 6, 4, 30, 20)


def messages(report, kind):
    return [finding.message for finding in report.findings if finding.kind == kind]


def files(report, kind):
    return [finding.file.rpartition("/")[2] for finding in report.findings if finding.kind == kind]


def problems(report):
    return collections.Counter(finding.kind for finding in report.problems())


def read_lines(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.fixture
def voc(tmp_path):
    """Adds images that all differ."""
    folder = VocFolder(tmp_path / "a set, of: dogs")
    folder.count = 0

    def add(image_id, objects=(DOG,), **options):
        folder.count += 1
        VocFolder.add(folder, image_id, objects, **options)
        size = options.get("size", (60, 40))
        path = folder.root / "JPEGImages" / f"{image_id}{options.get('suffix', '.jpg')}"
        write_picture(path, *size, seed=1000 + folder.count)
        return path

    folder.add = add
    return folder


# ---- Splits and records


def test_splits_that_training_rejects_are_reported(voc):
    voc.add("a")
    voc.add("b", [])
    voc.add("c", [("cat", 6, 4, 30, 20)])
    voc.split("train", "a")
    for name, kind in (("a", ""), ("b", "nothing to find"), ("c", "nothing to find")):
        voc.split("val", name)
        report = check_data(str(voc.root))
        assert set(problems(report)) - {"in two splits"} == ({kind} if kind else set())
    # The folder has images for evaluation alone; where they are named, all is well.
    (voc.root / "ImageSets" / "Main" / "train.txt").unlink()
    (message,) = messages(check_data(str(voc.root)), "source")
    assert "has no split for training" in message
    assert not problems(check_data(f'"{voc.root}":val'))


def test_all_splits_of_a_folder_are_checked(voc, tmp_path):
    for name in ("a", "b", "c", "d"):
        voc.add(name)
    voc.split("train", "a", "b")
    voc.split("val", "c")
    voc.split("trainval", "a", "b", "c")  # which VOC has beside them
    voc.split("test", "d")
    out = tmp_path / "records.jsonl"
    report = check_data(str(voc.root), records=str(out))
    assert report.splits == {"train": 2, "val": 1, "test": 1} and report.num_images == 4
    assert not report.problems() and "train: 2" in format_report(report)
    found = {line["image_id"]: line["split"] for line in read_lines(out)}
    assert found == {"a": "train", "b": "train", "c": "val", "d": "test"}
    assert check_data(f"{voc.root}:val").splits == {"val": 1}


def test_sources_are_joined_by_commas_and_quotes(voc, tmp_path):
    for name in ("a", "b"):
        voc.add(name)
    voc.split("train", "a")
    voc.split("test", "b")
    spec = f'voc_xml:"{voc.root}":train,voc_xml:"{voc.root}":test'
    assert check_data(spec).splits == {"train": 1, "test": 1}
    report = check_data(f"{spec},voc_xml:{tmp_path}/nowhere:train")
    assert problems(report) == {"source": 1} and report.num_images == 2
    (message,) = messages(check_data("vocxml:x:y"), "source")
    assert "did you mean voc_xml" in message


def test_records_are_those_that_training_reads(voc, tmp_path):
    objects = [
        ("dog", 50, 30, 80, 36.5),  # clipped at 60
        DOG,
        DOG,
        ("cat", 1, 2, 30, 20),
        ("bird", 10, 10, 10, 20),  # no area
        ("horse", 1, 1, 9, 9),  # of another class
    ]
    path = voc.add("a", objects)
    voc.add("crowd", [("dog", 3, 3, 40, 30)], extra="<difficult>1</difficult>")
    voc.add("wrong")
    write_picture(voc.root / "JPEGImages" / "wrong.jpg", 50, 30)
    damaged = voc.add("damaged")
    damaged.write_bytes(damaged.read_bytes()[:-90])
    voc.add("empty", [])
    spec = voc.split("train", "a", "wrong", "crowd", "damaged", "empty").replace(
        str(voc.root), f'"{voc.root}"'
    )
    out = tmp_path / "records.jsonl"
    report = check_data(spec, ("cat", "dog"), class_map={"bird": "cat"}, records=str(out))
    first, crowd, empty = read_lines(out)
    assert first == {
        "file": str(path),
        "image_id": "a",
        "split": "train",
        "width": 60,
        "height": 40,
        "boxes": [[50, 30, 60, 36.5], [6, 4, 30, 20], [6, 4, 30, 20], [1, 2, 30, 20]],
        "names": ["dog", "dog", "dog", "cat"],
        "difficult": [False] * 4,
        "crowd": [False] * 4,
        "clipped": [True, False, False, False],
        "twice": [False, False, True, False],
    }
    assert (crowd["image_id"], crowd["difficult"]) == ("crowd", [True])
    assert (empty["image_id"], empty["boxes"], empty["names"]) == ("empty", [], [])
    assert messages(report, "other classes") == ["1 object: horse (1)"]
    assert set(problems(report)) == {
        "box outside",
        "box twice",
        "box without area",
        "size differs",
        "image unreadable",
    }
    assert report.objects == {"dog": 6, "cat": 1, "bird": 1}


def test_records_of_images_inside_files(tmp_path):
    out = tmp_path / "records.jsonl"
    check_data("shapes:test[:2]", records=str(out))
    lines = read_lines(out)
    assert len(lines) == 2 and all(line["split"] == "test[:2]" for line in lines)
    for line in lines:
        assert line["width"] > 100 and len(line["boxes"]) == len(line["names"]) > 0
        assert np.max(line["boxes"]) > 2 and not any(line["clipped"])


@pytest.mark.parametrize("option", ["output", "records"])
def test_files_are_written_whole_or_not_at_all(voc, tmp_path, option, monkeypatch):
    voc.add("a")
    voc.split("train", "a")
    out = tmp_path / "out.jsonl"
    out.write_text("before")

    def fail(*_):
        raise RuntimeError

    monkeypatch.setattr("ssd_jax.diagnostics.check_data.read_content", fail)
    with pytest.raises(RuntimeError):
        check_data(str(voc.root), **{option: str(out)})
    assert out.read_text() == "before" and len(list(tmp_path.iterdir())) == 2
    with pytest.raises(UserError, match="cannot be written"):
        check_data(str(voc.root), **{option: str(tmp_path / "none" / "out.jsonl")})


# ---- Images


def test_images_in_two_splits_are_reported(voc):
    voc.add("a")
    voc.add("b")
    for copy in ("copy", "copy_in_train"):
        voc.add(copy)
        shutil.copy(voc.root / "JPEGImages/a.jpg", voc.root / f"JPEGImages/{copy}.jpg")
    # The same, smaller and compressed anew.
    voc.add("smaller", size=(54, 36))
    with Image.open(voc.root / "JPEGImages/b.jpg") as image:
        image.resize((54, 36)).save(voc.root / "JPEGImages/smaller.jpg", quality=90)
    voc.add("other")
    voc.split("train", "a", "b", "copy_in_train")
    voc.split("val", "copy", "smaller", "other", "b")
    report = check_data(str(voc.root))
    assert files(report, "in two splits") == ["copy.jpg", "b.jpg"]
    assert messages(report, "in two splits")[0].startswith("is in val, and in train as ")
    assert files(report, "near duplicate") == ["smaller.jpg"]
    assert messages(report, "near duplicate")[0].endswith("b.jpg in train")
    assert files(report, "same content") == ["copy_in_train.jpg"]


def test_images_without_contrast_are_reported(voc):
    def gray(name, low, high, objects=(DOG,)):
        pixels = np.full((40, 60), low, np.uint8)
        pixels[:20] = high
        voc.add(name, objects, suffix=".png")
        Image.fromarray(pixels).save(voc.root / f"JPEGImages/{name}.png")

    gray("black", 0, 0)
    gray("plain", 9, 9, ())
    gray("dark", 0, 15)
    gray("seen", 100, 116)
    voc.split("train", "black", "plain", "dark", "seen")
    report = check_data(str(voc.root))
    assert files(report, "no contrast") == ["black.png"]
    assert files(report, "low contrast") == ["plain.png", "dark.png"]
    assert messages(report, "low contrast")[1].endswith("from 0 to 15 of 255")


def test_small_images_are_named(voc):
    for name, size in (("small", (31, 6)), ("large", (32, 6))):
        voc.add(name, [DOG], size=size)
    voc.split("train", "small", "large")
    report = check_data(str(voc.root))
    assert files(report, "small image") == ["small.jpg"]
    assert messages(report, "small image")[0].endswith("has 31 × 6 pixels")


def test_an_image_that_cannot_be_opened_is_reported_once(voc):
    voc.add("a", size_tag=False).write_bytes(b"no image")
    voc.add("b")
    voc.split("train", "a", "b")
    report = check_data(str(voc.root))
    assert files(report, "image unreadable") == ["a.jpg"]
    assert set(problems(report)) == {"image unreadable"}


def test_boxes_of_an_image_without_size_are_not_checked(tmp_path):
    (tmp_path / "labels").mkdir()
    write_picture(tmp_path / "images" / "a.jpg", 600, 400)
    (tmp_path / "images" / "b.jpg").write_bytes(b"no image")
    # YOLO gives fractions, and no size: 0.5 of the side is large, 2 pixels of 400 are tiny.
    lines = "0 0.5 0.5 0.5 0.5\n0 0.3 0.3 0.2 0.005\n"
    for name in "ab":
        (tmp_path / "labels" / f"{name}.txt").write_text(lines)
    (tmp_path / "data.yaml").write_text("names: [dog]\n")
    report = check_data(str(tmp_path))
    assert files(report, "image unreadable") == ["b.jpg"]
    assert files(report, "tiny box") == ["a.txt"]
    assert messages(report, "tiny box")[0].endswith("has 120 × 2 pixels")
    assert report.objects == {"dog": 4}


def test_an_image_that_exif_rotates_is_reported(voc):
    path = voc.add("a", size_tag=False)
    exif = Image.Exif()
    exif[0x0112] = 6
    with Image.open(path) as image:
        image.save(path, exif=exif)
    voc.split("train", "a")
    assert files(check_data(str(voc.root)), "turned by EXIF") == ["a.jpg"]


# ---- Classes


def test_data_with_nothing_to_learn_is_reported(tmp_path):
    image = {"id": 1, "file_name": "a.jpg", "width": 60, "height": 40}
    crowd = {"image_id": 1, "category_id": 5, "bbox": [1, 2, 30, 20], "iscrowd": 1}
    content = {"images": [image], "categories": [{"id": 5, "name": "dog"}]}
    for annotations in ([crowd], []):
        report = check_data(write_coco(tmp_path, content | {"annotations": annotations}))
        assert problems(report) == {"nothing to learn": 1}


def test_classes_are_checked_as_in_training(tmp_path):
    image = {"id": 1, "file_name": "a.jpg", "width": 60, "height": 40}
    dog = {"image_id": 1, "category_id": 5, "bbox": [1, 2, 30, 20]}
    categories = [{"id": 4, "name": "pets"}, {"id": 5, "name": "dog"}, {"id": 6, "name": "fish"}]
    content = {"images": [image], "categories": categories, "annotations": [dog] * 10}
    spec = write_coco(tmp_path, content)
    assert messages(check_data(spec), "class without objects") == ["no object of fish, pets"]
    assert not messages(check_data(spec), "few objects")
    for arguments, word in (
        ({"class_names": ("dog", "dog")}, "'dog' twice"),
        ({"class_names": ("dgo",)}, "did you mean 'dog'"),
        ({"class_map": {"dgo": "dog"}}, "did you mean 'dog'"),
    ):
        (message,) = messages(check_data(spec, **arguments), "classes")
        assert word in message


# ---- Boxes


def coco_of(tmp_path, boxes, size=(600, 400)):
    """One image for each box."""
    images = [
        {"id": i, "file_name": f"{i}.jpg", "width": size[0], "height": size[1]}
        for i in range(len(boxes))
    ]
    objects = [{"image_id": i, "category_id": 5, "bbox": box} for i, box in enumerate(boxes)]
    content = {"images": images, "annotations": objects}
    for image in images:
        write_picture(tmp_path / "images" / image["file_name"], *size, seed=image["id"])
    (tmp_path / "instances.json").write_text(
        json.dumps(content | {"categories": [{"id": 5, "name": "dog"}]})
    )
    return f"coco_json:{tmp_path / 'instances.json'}:{tmp_path / 'images'}"


@pytest.fixture
def twelve():
    """Boxes of common sizes, as corners."""
    random = np.random.default_rng(3)
    low = random.uniform(200, 300, (12, 2)) * (1, 0.6)
    return np.column_stack([low, low + random.uniform(60, 200, (12, 2))]).round(2)


def test_boxes_of_another_form_are_reported(tmp_path, voc, twelve):
    as_coco = np.column_stack([twelve[:, :2], twelve[:, 2:] - twelve[:, :2]])
    assert not messages(check_data(coco_of(tmp_path / "right", as_coco.tolist())), "box form")
    (message,) = messages(check_data(coco_of(tmp_path / "corners", twelve.tolist())), "box form")
    assert message.endswith("corners, read as x, y, width and height") and "of 12 boxes" in message

    centres = [[450 + i, 300, 200, 150] for i in range(12)]
    (message,) = messages(check_data(coco_of(tmp_path / "centre", centres)), "box form")
    assert "a centre with width and height" in message

    for i, box in enumerate(as_coco.tolist()):
        voc.add(f"a{i}", [("dog", *box)], size=(600, 400))
    voc.split("train", *(f"a{i}" for i in range(12)))
    (message,) = messages(check_data(str(voc.root)), "box form")
    assert message.endswith("x, y, width and height, read as corners")


def test_tiny_and_long_boxes_are_reported_with_the_image(tmp_path):
    boxes = [[10, 10, 5, 100], [10, 10, 3.5, 30], [10, 10, 500, 30], [10, 10, 100, 100]]
    report = check_data(coco_of(tmp_path, boxes))
    assert messages(report, "tiny box") == [
        "0.jpg: 'dog' at 10, 10, 15, 110 has 5 × 100 pixels",
        "1.jpg: 'dog' at 10, 10, 13.5, 40 has 3.5 × 30 pixels",
    ]
    assert messages(report, "long box") == [
        "2.jpg: 'dog' at 10, 10, 510, 40 is 16.7 times as long as wide"
    ]


def test_boxes_around_all_of_many_images_are_reported(tmp_path):
    whole, part = [0, 0, 600, 400], [100, 100, 200, 150]
    report = check_data(coco_of(tmp_path / "many", [whole] * 10 + [part] * 5))
    assert messages(report, "whole images") == ["10 of 15 images have a box around the whole image"]
    for few, others in ((10, 25), (9, 2)):
        report = check_data(coco_of(tmp_path / f"few{few}", [whole] * few + [part] * others))
        assert not messages(report, "whole images")


def test_a_box_unlike_others_of_its_class_is_reported(tmp_path):
    usual = [[100 + i, 100, 90 + i, 100 + 2 * (i % 7)] for i in range(29)]
    odd, wide = [50, 50, 12, 12], [10, 100, 560, 60]
    report = check_data(coco_of(tmp_path / "odd", [*usual, odd, wide]))
    assert len(messages(report, "unusual box")) == 2
    assert messages(report, "unusual box")[0].startswith("'dog' at 50, 50, 62, 62 has 2.4%")
    # Of so few none is known to be unlike the others.
    assert not messages(check_data(coco_of(tmp_path / "few", [*usual[:20], odd])), "unusual box")
