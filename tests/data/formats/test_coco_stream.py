"""COCO's JSON read as a stream equals the result of `json.load`, in any order and form."""

import codecs
import json
import random

import pytest

from ssd_jax.data.formats.coco_json import open_coco_json
from ssd_jax.data.problems import Problems
from ssd_jax.errors import UserError
from tests.helpers.pictures import write_picture

CATEGORIES = {1: "cat", 10**20: "dög", 7: "bird"}
NAMES = ["a.jpg", "ä b.jpg", "sub/c.jpg", "d.jpg"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("images")
    for name in NAMES:
        write_picture(folder / name)
    return folder


def shuffled(draw, entry):
    keys = list(entry)
    draw.shuffle(keys)
    return {key: entry[key] for key in keys}


def peculiar(seed):
    """A file's content: ids of all kinds, nested and unknown keys, in any order."""
    draw = random.Random(seed)
    ids = [draw.choice([i, str(i), float(i), 10**30 + i, f"n{i}", -i - 1]) for i in range(4)]
    images = [
        {"id": i, "file_name": name, "width": draw.choice([60, "60", 60.0]), "height": 40,
         "nested": {"id": 9, "x": [{"file_name": "]}, {"}]}, "license": None}
        for i, name in zip(ids, NAMES, strict=True)
    ]  # fmt: skip
    objects = [
        {"id": 10**25 + i, "image_id": draw.choice(ids), "category_id": draw.choice([*CATEGORIES]),
         "bbox": [draw.randrange(30) + 0.25, 2, draw.randrange(1, 20), draw.choice([9, "9.5"])],
         "segmentation": draw.choice([[[1, 2, 3.5, 4, 5, 6]], {"counts": [5, 9], "size": [2, 7]}]),
         "area": draw.choice([None, 12, "8.5"]), "iscrowd": draw.choice([0, 0, 1, "yes"]),
         "attributes": {"occluded": draw.choice([True, float("nan")])}}
        for i in range(draw.randrange(30))
    ]  # fmt: skip
    content = {
        "info": {"images": [1, {"a": "}"}]},
        "images": [shuffled(draw, image) for image in images],
        "annotations": [shuffled(draw, entry) for entry in objects],
        "categories": [{"id": key, "name": name} for key, name in CATEGORIES.items()],
    }
    return shuffled(draw, content)


def by_hand(content):
    """Boxes, names, crowds and areas of each image, by its id."""

    def same(value):
        return str(int(value)) if isinstance(value, float) else str(value)

    expected = {}
    for image in content["images"]:
        own = [a for a in content["annotations"] if same(a["image_id"]) == same(image["id"])]
        expected[same(image["id"])] = (
            image["file_name"],
            [
                (
                    [x, y, x + width, y + float(height)],
                    CATEGORIES[entry["category_id"]],
                    entry["iscrowd"] in (1, "yes"),
                    "nan" if entry["area"] is None else str(float(entry["area"])),
                )
                for entry in own
                for x, y, width, height in [entry["bbox"]]
            ],
        )
    return expected


def read(file, folder):
    annotations = open_coco_json(str(file), str(folder), Problems())
    found = {}
    for each in map(annotations.annotation, range(len(annotations))):
        assert each.size == (40, 60) and each.file == str(file) and not each.difficult.any()
        areas = [str(area) for area in each.area.tolist()]
        rows = zip(each.boxes.tolist(), each.names, each.crowd.tolist(), areas, strict=True)
        found[each.image_id] = each.path.removeprefix(f"{folder}/"), list(rows)
    return found


@pytest.mark.parametrize("seed", range(12))
def test_a_peculiar_file_is_read_as_by_the_json_module(tmp_path, folder, seed):
    content = peculiar(seed)
    text = json.dumps(content, indent=seed % 3 or None, ensure_ascii=seed % 2 == 0)
    marks = (b"", codecs.BOM_UTF8)
    data = text.encode("utf-16") if seed % 5 == 4 else marks[seed % 2] + text.encode()
    file = tmp_path / "a.json"
    file.write_bytes(data)
    assert read(file, folder) == by_hand(content)


def test_the_order_of_the_lists_does_not_matter(tmp_path, folder):
    content = peculiar(3)
    files = {}
    for order in (["annotations", "images", "categories"], ["categories", "annotations", "images"]):
        file = tmp_path / f"{order[0]}.json"
        file.write_text(json.dumps({key: content[key] for key in order}))
        files[order[0]] = read(file, folder)
    assert files["annotations"] == files["categories"] == by_hand(content)


def test_a_file_that_ends_early_is_refused_with_the_place(tmp_path, folder):
    text = json.dumps(peculiar(1), indent=1, ensure_ascii=False)
    text = text[: text.index('"bbox"') + 30].rstrip()
    (tmp_path / "a.json").write_text(text)
    with pytest.raises(json.JSONDecodeError) as expected:
        json.loads(text)
    with pytest.raises(UserError) as raised:
        open_coco_json(str(tmp_path / "a.json"), str(folder), Problems())
    assert str(raised.value) == f"{tmp_path / 'a.json'} is not JSON: {expected.value}"


def test_invalid_utf_8_is_rejected_in_unused_values_too(tmp_path, folder):
    data = json.dumps(peculiar(1)).encode().replace(b'"license"', b'"lic\xff"')
    (tmp_path / "a.json").write_bytes(data)
    with pytest.raises(UserError, match="is not a text file in UTF-8"):
        open_coco_json(str(tmp_path / "a.json"), str(folder), Problems())


def test_damage_is_reported_in_the_order_of_the_file(tmp_path, folder):
    content = {
        "images": [
            {"id": 1, "file_name": "a.jpg"},
            {"id": 2, "file_name": "none.jpg"},
            {"id": 1.0, "file_name": "d.jpg"},
            {"id": 3, "file_name": "sub/c.jpg"},
            {"id": 4, "file_name": "SUB\\C.jpg"},
            {"file_name": "d.jpg"},
        ],
        "annotations": [
            {"image_id": 9, "category_id": 1, "bbox": [1, 2, 3, 4]},
            None,
            {"image_id": 3, "category_id": 1, "bbox": [1, 2, 3, 4]},
            {"image_id": 1, "category_id": 5, "bbox": [1, 2, 3]},
        ],
        "categories": [{"id": 1, "name": "cat"}],
    }
    file = tmp_path / "a.json"
    file.write_text(json.dumps(content))
    problems = Problems("skip", 1.0)
    annotations = open_coco_json(str(file), str(folder), problems)
    assert list(annotations.columns.image_ids) == ["3"] and problems.num_images == 6
    assert annotations.columns.boxes.tolist() == [[1, 2, 4, 6]]
    told = [(each.image_id, [p.message for p in each.problems]) for each in problems.found]
    assert told == [
        ("annotations[0]", ["annotations[0] names the unknown image 9"]),
        ("annotations[1]", ["annotations[1] has no image_id: None"]),
        ("1", [
            "the image 1: an annotation names the unknown category 5",
            "the image 1: a bbox is [1, 2, 3], but must be x, y, width and height: four numbers of "
            "at most 1,000,000,000",
        ]),
        ("2", [f"the image 2: 'none.jpg' is not in {folder}"]),
        ("images[2]", ["images[2] has the id 1 again"]),
        ("4", ["the images 3 and 4 are both 'SUB\\\\C.jpg'"]),
        ("images[5]", ["images[5] has no id: {'file_name': 'd.jpg'}"]),
    ]  # fmt: skip
