import logging
import math

import numpy as np
import pytest

from ssd_jax.data.problems import Problems
from ssd_jax.data.sources import explicit_sources, open_dataset
from ssd_jax.errors import UserError
from tests.data.formats.files import BOX, check_round_trip, objects, write_files
from tools.formats import label_studio

CAT = [("cat", BOX)]
VALUE = {"x": 10, "y": 10, "width": 30, "height": 50, "rotation": 0, "rectanglelabels": ["cat"]}
SIZE = {"original_width": 200, "original_height": 100, "image_rotation": 0}


def region(value=VALUE, kind="rectanglelabels", **others):
    return SIZE | {"value": value, "id": "x", "type": kind, "from_name": "label"} | others


def task(image, *regions, **others):
    made = {"id": 1, "result": list(regions), "was_cancelled": False}
    return {"id": 1, "annotations": [made | others], "data": {"image": image}}


@pytest.mark.parametrize(
    "image, file",
    [
        ("/data/upload/1/ab12cd34-a.jpg", "ab12cd34-a.jpg"),
        ("/data/upload/1/ab12cd34-a.jpg", "images/a.jpg"),
        ("/data/upload/1/ab12cd34-my_photo_1.jpg", "my photo (1).jpg"),
        ("/data/upload/1/ab12cd34-L%C3%B6we.jpg", "Löwe.jpg"),
        ("a.jpg", "images/ab12cd34-a.jpg"),
        ("/data/local-files/?d=set/images/a+b.jpg", "images/a+b.jpg"),
        ("/data/local-files/?d=set%5Cimages%5Ca.jpg", "images/a.jpg"),
        ("s3://bucket/set/a.jpg", "a.jpg"),
        ("https://host.org/x/a%20b.jpg?token=1", "a b.jpg"),
        ("C:\\me\\a.jpg", "a.jpg"),
    ],
)
def test_names_of_images(tmp_path, image, file):
    export = "project-1-at-2024-01-01-12-00-abcdef12.json"
    folder = write_files(tmp_path, {file: None, export: [task(image, region())]})
    assert objects(folder) == {file.rpartition(".")[0]: CAT}
    assert explicit_sources(folder) == [f"label_studio:{tmp_path}/{export}:{tmp_path}"]
    assert objects(str(tmp_path / export)) == objects(folder)


def test_json_min(tmp_path):
    row = {"id": 1, "annotator": 1, "annotation_id": 2, "updated_at": "2024-01-01"}
    rows = [
        row | {"image": "/data/upload/1/ab12cd34-a.jpg", "label": [SIZE | VALUE]},
        row | {"id": 2, "image": "b.jpg", "label": [SIZE | VALUE], "updated_at": "2024-01-03"},
        row | {"id": 2, "image": "b.jpg", "label": [SIZE | VALUE, SIZE | VALUE | {"x": 0}]},
        row | {"id": 3, "image": "c.jpg"},
        {"id": 4, "image": "not_annotated.jpg"},
    ]
    images = dict.fromkeys(["a.jpg", "b.jpg", "c.jpg", "not_annotated.jpg"])
    folder = write_files(tmp_path, images | {"min.json": rows})
    assert objects(folder) == {"a": CAT, "b": CAT, "c": []}


@pytest.mark.parametrize("angle", [0, 30, 90, -45, 180])
def test_rotated_rectangles_turn_about_their_first_corner_in_pixels(tmp_path, angle):
    turned = VALUE | {"x": 50, "y": 50, "width": 10, "height": 20, "rotation": angle}
    folder = write_files(tmp_path, {"a.jpg": None, "x.json": [task("a.jpg", region(turned))]})
    turn = np.exp(1j * math.radians(angle))  # y points down, so this is clockwise
    corners = np.array(
        [100 + 50j + turn * (right + 1j * down) for right in (0, 20) for down in (0, 20)]
    )
    expected = [corners.real.min(), corners.imag.min(), corners.real.max(), corners.imag.max()]
    ((_, box),) = objects(folder)["a"]
    np.testing.assert_allclose(box, expected, atol=1e-2)


@pytest.mark.parametrize(
    "regions, expected",
    [
        ([region({"points": [[10, 10], [40, 30], [20, 60]], "polygonlabels": ["cat"]})], CAT),
        (
            [
                region(
                    {"x": 25, "y": 35, "radiusX": 15, "radiusY": 25, "ellipselabels": ["cat"]},
                    "ellipselabels",
                )
            ],
            CAT,
        ),
        (
            [
                region({key: VALUE[key] for key in ("x", "y", "width", "height")}, "rectangle"),
                region(VALUE | {"rectanglelabels": None, "labels": ["cat"]}, "labels"),
            ],
            CAT,
        ),
        ([region(VALUE | {"rectanglelabels": ["cat", "wet"]})], [("cat", BOX), ("wet", BOX)]),
        ([region(), region({"choices": ["indoors"]}, "choices", id="y")], CAT),
        ([region(), region(VALUE | {"choices": ["wet"]}, "choices")], CAT),
        ([region(VALUE | {"x": "10.0"}, original_width="200")], CAT),
    ],
    ids=["polygon", "ellipse", "labels apart", "two", "of the image", "of the region", "texts"],
)
def test_regions(tmp_path, regions, expected):
    folder = write_files(tmp_path, {"a.jpg": None, "x.json": [task("a.jpg", *regions)]})
    assert objects(folder)["a"] == expected


def test_the_ground_truth_or_newest_annotation_is_used(tmp_path, caplog, monkeypatch):
    monkeypatch.setattr(logging.getLogger("ssd_jax"), "propagate", True)

    def several(image, *made):
        return {"id": 1, "data": {"img": image}, "annotations": list(made)}

    new = {"result": [region()], "updated_at": "2024-02-01T00:00:00Z"}
    old = {"result": [], "updated_at": "2024-01-01T00:00:00Z"}
    brush = region({"format": "rle", "rle": [1], "brushlabels": ["cat"]}, "brushlabels", id="b")
    tasks = [
        several("newest.jpg", new, old),
        several("truth.jpg", new, old | {"result": [region()], "ground_truth": True}),
        several("cancelled.jpg", old | {"result": [region()]}, new | {"was_cancelled": True}),
        several("empty.jpg", old),
        several("none.jpg"),
        several("none2.jpg", new | {"was_cancelled": True}),
        several("brush.jpg", old | {"result": [brush, region()]}),
    ]
    images = {each["data"]["img"]: None for each in tasks}
    read = objects(write_files(tmp_path, images | {"x.json": tasks}))
    expected = dict.fromkeys(["newest", "truth", "cancelled", "brush"], CAT) | {"empty": []}
    assert read == expected
    assert "left out 2 tasks without an annotation: none.jpg, none2.jpg" in caplog.text
    assert "2 tasks with several annotations" in caplog.text
    assert "left out 1 region without a box (masks and points)" in caplog.text


@pytest.mark.parametrize(
    "entry, message",
    [
        (7, "is 7, which is not a task"),
        ({"data": {"text": "x"}}, "names no image"),
        (task("gone.jpg", region()), "'gone.jpg' is not in"),
        (task("a.jpg", region(VALUE | {"rectanglelabels": []})), "a region has no class"),
        (task("a.jpg", region(VALUE | {"x": None})), "not a shape in percent"),
        (task("a.jpg", region(VALUE | {"width": "nan"})), "not a shape in percent"),
        (task("a.jpg", region(VALUE | {"width": 999})), "probably they are pixels"),
        (task("a.jpg", region(original_width=100, original_height=50)), "resized by 2"),
        (task("a.jpg", region(image_rotation=90)), "image_rotation"),
        (task("a.jpg", 7), "a region is 7"),
        (task("a.jpg", SIZE | {"type": "rectanglelabels"}), "a region is {"),
        (task("a.jpg", region({"rectanglelabels": ["cat"]})), "not a shape in percent"),
        (task("a.jpg", region(), region(VALUE | {"x": 0})), "two shapes have the id 'x'"),
        (task("a.jpg") | {"data": None}, "names no image"),
        ({"annotations": [], "image": "a.jpg"}, "has no data"),
        (task("a.jpg", *[region(VALUE | {"rotation": 9}, original_width=None)]), "is rotated, but"),
    ],
)
def test_wrong_tasks_are_named_or_skipped(tmp_path, entry, message):
    files = {"a.jpg": None, "b.jpg": None, "x.json": [task("b.jpg", region()), entry]}
    source = f"label_studio:{write_files(tmp_path, files)}/x.json:{tmp_path}"
    with pytest.raises(UserError, match=rf"x\.json: .*{message}"):
        open_dataset(source)
    problems = Problems("skip", 0.5)
    assert objects(source, problems=problems) == {"b": CAT}
    assert len(problems.found) == 1 and problems.num_images == 2


def test_two_exports_of_the_same_images_are_refused(tmp_path):
    files = {
        "a.jpg": None,
        "1.json": [task("a.jpg", region())],
        "2.json": [task("a.jpg", region())],
    }
    with pytest.raises(UserError, match=r"1\.json and .*2\.json are exports of the same image"):
        explicit_sources(write_files(tmp_path, files))


def test_an_ambiguous_image_is_rejected(tmp_path):
    export = [task("/data/upload/1/ab12cd34-a.jpg", region())]
    files = {"x/a.jpg": None, "y/ff12cd34-a.jpg": None, "x.json": export}
    with pytest.raises(UserError, match=r"may be any of x/a\.jpg, y/ff12cd34-a\.jpg"):
        open_dataset(write_files(tmp_path, files))


def test_written_and_read_back(tmp_path):
    check_round_trip(label_studio.write, tmp_path)
