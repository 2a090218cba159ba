import json
import logging
import math

import numpy as np
import pytest

from ssd_jax.data.problems import Problems
from ssd_jax.data.sources import explicit_sources, open_dataset
from ssd_jax.errors import UserError
from tests.data.formats.files import BOX, check_round_trip, objects, write_files
from tools.formats import via

CAT = [("cat", BOX)]
RECT = {"name": "rect", "x": 20, "y": 10, "width": 60, "height": 50}
HEADER = (
    "filename,file_size,file_attributes,region_count,region_id,"
    "region_shape_attributes,region_attributes\n"
)


def region(shape=RECT, **attributes):
    return {"shape_attributes": shape, "region_attributes": attributes or {"class": "cat"}}


def export(*regions, name="a.jpg"):
    entry = {"filename": name, "size": 7, "regions": list(regions), "file_attributes": {}}
    return {f"{name}7": entry}


def in_quotes(value):
    return '"' + json.dumps(value).replace('"', '""') + '"'


def row(name="a.jpg", count=1, shape=RECT, attributes=None):
    values = in_quotes(shape), in_quotes({"class": "cat"} if attributes is None else attributes)
    return f'{name},7,"{{}}",{count},0,{",".join(values)}\n'


PROJECT_3 = {
    "project": {"pid": "__VIA_PROJECT_ID__", "data_format_version": "3.1.1", "vid_list": ["1"]},
    "attribute": {"1": {"aname": "class", "type": 4, "options": {"0": "dog", "1": "cat"}}},
    "file": {"1": {"fid": "1", "fname": "a.jpg", "type": 2, "loc": 1, "src": "a.jpg"}},
    "metadata": {
        "1_x": {"vid": "1", "flg": 0, "z": [], "xy": [2, 20, 10, 60, 50], "av": {"1": "1"}},
        "1_y": {"vid": "1", "flg": 0, "z": [], "xy": [], "av": {}},
    },
    "view": {"1": {"fid_list": ["1"]}},
}


@pytest.mark.parametrize(
    "file, content",
    [
        ("via_region_data.json", export(region())),
        ("via_project.json", {"_via_settings": {}, "_via_img_metadata": export(region())}),
        ("version_1.json", {"a.jpg7": export()["a.jpg7"] | {"regions": {"0": region()}}}),
        ("via_export_csv.csv", HEADER + row()),
        ("version_1.csv", "#" + HEADER.replace("\n", "\r\n") + row().replace("\n", "\r\n")),
        ("project_3.json", PROJECT_3),
        ("url.json", export(region(), name="https://host.org/x/a.jpg?y=1")),
        ("windows.json", export(region(), name="D:\\me\\a.jpg")),
        ("mark.json", "\ufeff" + json.dumps(export(region()))),
    ],
)
def test_layouts_by_the_bare_folder(tmp_path, file, content):
    for image in ("a.jpg", "images/a.jpg"):
        folder = write_files(tmp_path / image.replace(".", ", "), {image: None, file: content})
        assert list(objects(folder).values()) == [CAT]
        (source,) = explicit_sources(folder)
        assert source.startswith("via:") and objects(source) == objects(folder)
    assert objects(f"{folder}/{file}") == {"images/a": CAT}


def test_splits(tmp_path):
    files = {}
    for split in ("train", "val"):
        name = f"{split}.jpg"
        content = export(region(), name=name)
        files |= {f"{split}/{name}": None, f"{split}/via_region_data.json": content}
    folder = write_files(tmp_path, files)
    assert objects(folder, role="train") == {"train": CAT}
    assert objects(f"{folder}:val") == {"val": CAT}


def test_splits_by_the_names_of_files(tmp_path):
    files = {}
    for split in ("train", "val"):
        files |= {f"images/{split}/a.jpg": None, f"via_{split}.json": export(region())}
    folder = write_files(tmp_path, files)
    for split in ("train", "val"):
        dataset = open_dataset(f"{folder}:via_{split}")
        assert [record.path for record in dataset] == [f"{folder}/images/{split}/a.jpg"]


@pytest.mark.parametrize(
    "shape, box",
    [
        (RECT | {"x": "20"}, BOX),
        ({"name": "polygon", "all_points_x": [50, 80, 20], "all_points_y": [10, 60, 30]}, BOX),
        ({"name": "polyline", "all_points_x": [20, 80], "all_points_y": [10, 60]}, BOX),
        ({"name": "circle", "cx": 50, "cy": 40, "r": 5}, (45, 35, 55, 45)),
        ({"name": "ellipse", "cx": 50, "cy": 40, "rx": 5, "ry": 10}, (45, 30, 55, 50)),
        (
            {"name": "ellipse", "cx": 50, "cy": 40, "rx": 5, "ry": 10, "theta": math.pi / 2},
            (40, 35, 60, 45),
        ),
    ],
)
def test_shapes(tmp_path, shape, box):
    folder = write_files(tmp_path, {"a.jpg": None, "via.json": export(region(shape))})
    ((name, read),) = objects(folder)["a"]
    assert name == "cat"
    np.testing.assert_allclose(read, box, atol=1e-3)


@pytest.mark.parametrize("numbers, box", [([3, 50, 40, 5], (45, 35, 55, 45))])
def test_circles_of_version_3(tmp_path, numbers, box):
    project = json.loads(json.dumps(PROJECT_3))
    project["metadata"]["1_x"]["xy"] = numbers
    folder = write_files(tmp_path, {"a.jpg": None, "via.json": project})
    assert objects(folder)["a"] == [("cat", box)]


@pytest.mark.parametrize(
    "attributes, name",
    [
        ([{"species": "cat"}], "cat"),
        ([{"id": "7", "type": " cat "}], "cat"),
        ([{"name": "Tom", "class": "cat"}], "cat"),
        ([{"Object class": "cat", "colour": "red"}], "cat"),
        ([{"type": {"cat": True, "dog": False}}], "cat"),
        ([{"species": "cat", "name": ""}], "cat"),
        ([{"species": "cat", "name": "Tom"}, *[{"species": "cat"}] * 2], "cat"),
        ([{}], "object"),
        ([{"class": ""}], "object"),
    ],
)
def test_the_attribute_that_is_the_class(tmp_path, attributes, name):
    regions = [
        {"shape_attributes": RECT | {"x": i}, "region_attributes": each}
        for i, each in enumerate(attributes)
    ]
    folder = write_files(tmp_path, {"a.jpg": None, "via.json": export(*regions)})
    assert {found for found, _ in objects(folder)["a"]} == {name}


def test_an_ambiguous_attribute_is_rejected(tmp_path):
    content = export(region(species="cat", colour="red"))
    folder = write_files(tmp_path, {"a.jpg": None, "via.json": content})
    with pytest.raises(UserError, match="may be the attribute species or colour"):
        open_dataset(folder)


def test_points_and_empty_images_are_reported(tmp_path, caplog, monkeypatch):
    monkeypatch.setattr(logging.getLogger("ssd_jax"), "propagate", True)
    point = region({"name": "point", "cx": 1, "cy": 2})
    content = export(region(), point) | export(name="b.jpg")
    folder = write_files(tmp_path, {"a.jpg": None, "b.jpg": None, "via.json": content})
    assert objects(folder) == {"a": CAT, "b": []}
    assert "left out 1 point without a box" in caplog.text
    assert "1 image without regions, used as images without objects: b.jpg" in caplog.text


@pytest.mark.parametrize(
    "changed, message",
    [
        ({"filename": "gone.jpg"}, "'gone.jpg' is not in"),
        ({"filename": None}, "has no filename"),
        ({"regions": 7}, "regions is 7"),
        ({"regions": [7]}, "a region is 7"),
        ({"regions": [region(RECT | {"x": None})]}, "not a shape in pixels"),
        ({"regions": [region(RECT | {"x": "inf"})]}, "not a shape in pixels"),
        ({"regions": [region(RECT | {"name": "star"})]}, "not a shape in pixels"),
        ({"regions": [region(RECT, other="x")]}, "a region has no class \\(class\\)"),
    ],
)
def test_wrong_entries_are_named_or_skipped(tmp_path, changed, message):
    content = export(region(), name="b.jpg")
    content |= {"a": export(region())["a.jpg7"] | changed}
    files = {"a.jpg": None, "b.jpg": None, "via.json": content}
    source = f"via:{write_files(tmp_path, files)}/via.json:{tmp_path}"
    with pytest.raises(UserError, match=rf"via\.json: .*{message}"):
        open_dataset(source)
    problems = Problems("skip", 0.5)
    assert objects(source, problems=problems) == {"b": CAT}
    assert len(problems.found) == 1 and problems.num_images == 2


@pytest.mark.parametrize(
    "line, message",
    [("a.jpg,7\n", "has 2 columns"), (row().replace("{", "[", 2), "is not a JSON object")],
)
def test_wrong_rows_are_named(tmp_path, line, message):
    files = {"a.jpg": None, "b.jpg": None, "via.csv": HEADER + row("b.jpg") + line}
    with pytest.raises(UserError, match=rf"via\.csv: .*{message}"):
        open_dataset(write_files(tmp_path, files))


def test_rows_without_regions_and_several_of_one_image(tmp_path):
    other = row(shape=RECT | {"x": 0}, count=2)
    lines = HEADER + row(count=2) + other + row("b.jpg", 0, {}, {})
    folder = write_files(tmp_path, {"a.jpg": None, "b.jpg": None, "via.csv": lines})
    assert objects(folder) == {"a": [*CAT, ("cat", (0, 10, 60, 60))], "b": []}


def test_two_exports_of_the_same_images_are_refused(tmp_path):
    files = {"a.jpg": None, "a.json": export(region()), "b.csv": HEADER + row()}
    with pytest.raises(UserError, match=r"are exports of the same image 'a\.jpg'"):
        explicit_sources(write_files(tmp_path, files))


def test_written_and_read_back(tmp_path):
    check_round_trip(via.write, tmp_path)
