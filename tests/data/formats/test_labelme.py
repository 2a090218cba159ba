import base64
import json
import logging

import pytest

from ssd_jax.data.problems import Problems
from ssd_jax.data.sources import explicit_sources, open_dataset
from ssd_jax.errors import UserError
from tests.data.formats.files import BOX, check_round_trip, objects, write_files
from tools.formats import labelme

CAT = [("cat", BOX)]
RECTANGLE = {"label": "cat", "points": [[20, 10], [80, 60]], "shape_type": "rectangle"}


def content(*shapes, image_path="a.jpg", **others):
    return {
        "version": "5.5.0",
        "flags": {},
        "shapes": shapes,
        "imagePath": image_path,
        "imageData": None,
        "imageHeight": 100,
        "imageWidth": 200,
    } | others


@pytest.mark.parametrize(
    "files",
    [
        {"a.jpg": None, "a.json": content(RECTANGLE)},
        {
            "images/a.jpg": None,
            "annotations/a.json": content(RECTANGLE, image_path="..\\images\\a.jpg"),
        },
        {"images/a.jpg": None, "json/a.json": content(RECTANGLE, image_path="C:\\me\\a.jpg")},
        {"x/y/a.jpg": None, "x/y/a.json": content(RECTANGLE, image_path="/home/me/a.jpg")},
        {"a.jpg": None, "a.json": content(RECTANGLE, image_path="renamed.jpg")},
        {"a.jpg": None, "a.json": "\ufeff" + json.dumps(content(RECTANGLE))},
        {"a.jpg": None, "a.json": content(RECTANGLE, imageHeight=None, imageWidth=None)},
        {"a.jpg": None, "a.json": content(RECTANGLE, imageHeight="100", imageWidth="200")},
    ],
    ids=["beside", "folders", "windows", "below", "renamed", "mark", "no size", "text"],
)
def test_layouts_by_the_bare_folder(tmp_path, files):
    source = write_files(tmp_path / "a folder, with: signs", files)
    ((image_id, read),) = objects(source).items()
    assert image_id.rpartition("/")[2] == "a" and read == CAT
    (explicit,) = explicit_sources(source)
    assert list(objects(explicit).values()) == [CAT]


def test_one_file(tmp_path):
    write_files(tmp_path, {"a.jpg": None, "a.json": content(RECTANGLE)})
    write_files(tmp_path, {"b.jpg": None, "b.json": content(RECTANGLE, image_path="b.jpg")})
    assert objects(str(tmp_path / "b.json")) == {"b": CAT}


def test_splits(tmp_path):
    files = {}
    for split in ("train", "val"):
        files |= {f"{split}/{split}.jpg": None}
        files |= {f"{split}/{split}.json": content(RECTANGLE, image_path=f"{split}.jpg")}
    folder = write_files(tmp_path, files)
    assert objects(folder, role="train") == {"train": CAT}
    assert objects(f"{folder}:val") == {"val": CAT}


@pytest.mark.parametrize("image_path", ["a.jpg", "../../images/{}/a.jpg"])
def test_splits_in_two_folders_with_the_same_names(tmp_path, image_path):
    files = {}
    for split in ("train", "val"):
        shape = RECTANGLE | {"label": split}
        files |= {f"images/{split}/a.jpg": None}
        files |= {f"json/{split}/a.json": content(shape, image_path=image_path.format(split))}
    folder = write_files(tmp_path, files)
    assert objects(folder, role="train") == {"a": [("train", BOX)]}
    assert open_dataset(f"{folder}:val")[0].path == f"{folder}/images/val/a.jpg"


@pytest.mark.parametrize(
    "kind, points, box",
    [
        ("rectangle", [[80, 10], [20, 60]], BOX),
        ("rectangle", [[20, 10], [80, 10], [80, 60], [20, 60]], BOX),
        ("polygon", [[50, 10], [80, 60], [20.5, 30]], (20.5, 10, 80, 60)),
        (None, [[50, 10], [80, 60], [20, 30]], BOX),  # of the first versions
        ("circle", [[50, 40], [53, 44]], (45, 35, 55, 45)),
        ("linestrip", [[20, 10], [80, 30], [70, 60]], BOX),
        ("line", [[20, 60], [80, 10]], BOX),
        ("rotation", [[50, 10], [80, 40], [50, 60], [20, 40]], BOX),
        ("mask", [[20, 10], [79, 59]], BOX),  # the last pixels, too
    ],
)
def test_shapes(tmp_path, kind, points, box):
    shape = {"label": " traffic light ", "points": points, "shape_type": kind}
    files = {"a.jpg": None, "a.json": content(shape)}
    assert objects(write_files(tmp_path, files)) == {"a": [("traffic light", box)]}


def test_points_and_images_without_a_file_are_left_out_and_reported(tmp_path, caplog, monkeypatch):
    monkeypatch.setattr(logging.getLogger("ssd_jax"), "propagate", True)
    point = {"label": "eye", "points": [[30, 20]], "shape_type": "point"}
    files = {"a.jpg": None, "a.json": content(RECTANGLE, point), "b.jpg": None}
    files |= {"empty.jpg": None, "empty.json": content(image_path="empty.jpg")}
    assert objects(write_files(tmp_path, files)) == {"a": CAT, "empty": []}
    assert "left out 1 point without a box" in caplog.text
    assert "left out 1 image without an annotation file: b.jpg" in caplog.text


@pytest.mark.parametrize("flagged", [{"flags": {"difficult": True}}, {"difficult": True}])
def test_difficult(tmp_path, flagged):
    folder = write_files(tmp_path, {"a.jpg": None, "a.json": content(RECTANGLE | flagged)})
    assert open_dataset(folder)[0].difficult.all()


@pytest.mark.parametrize(
    "changed, message",
    [
        (
            {"shapes": [{"points": [[1, 2], [3, 4]], "shape_type": "rectangle"}]},
            "has the label None",
        ),
        ({"shapes": [RECTANGLE | {"points": [[1, 2]]}]}, r"points of a rectangle are \[\[1, 2\]\]"),
        ({"shapes": [RECTANGLE | {"points": [[1, None], [3, 4]]}]}, "points of a rectangle"),
        ({"shapes": [RECTANGLE | {"shape_type": "star"}]}, "the shape_type 'star' is not known"),
        ({"shapes": [7]}, "a shape is 7"),
        ({"shapes": {}}, "no list 'shapes'"),
        ({"imageWidth": 100, "imageHeight": 50}, "resized by 2"),
        ({"imagePath": "b.jpg"}, "imagePath is 'b.jpg', but .*a.jpg has the name"),
    ],
)
def test_wrong_files_are_named_or_skipped(tmp_path, changed, message):
    files = {"a.jpg": None, "a.json": content(RECTANGLE) | changed}
    files |= {"b.jpg": None, "b.json": content(RECTANGLE, image_path="b.jpg")}
    source = f"labelme:{write_files(tmp_path, files)}:{tmp_path}"
    with pytest.raises(UserError, match=rf"a\.json: .*{message}"):
        open_dataset(source)
    problems = Problems("skip", 0.5)
    assert objects(source, problems=problems) == {"b": CAT}
    assert len(problems.found) == 1 and problems.num_images == 2


def test_a_missing_image_outside_the_folder_is_not_read(tmp_path):
    data = base64.b64encode(b"jpeg").decode()
    outside = content(RECTANGLE, image_path="../../secret.jpg", imageData=data)
    write_files(tmp_path, {"secret.jpg": None})
    folder = write_files(tmp_path / "x" / "set", {"b.jpg": None, "a.json": outside})
    with pytest.raises(UserError, match=r"secret\.jpg' is not in .*the image inside the file"):
        open_dataset(folder)


def test_other_json_files_are_not_claimed(tmp_path):
    files = {"a.jpg": None, "a.json": {"shapes": 1}, "b.json": [content(RECTANGLE)]}
    with pytest.raises(UserError, match="no annotations of a known format"):
        explicit_sources(write_files(tmp_path, files))


def test_written_and_read_back(tmp_path):
    check_round_trip(labelme.write, tmp_path, "a.jpg")
