"""Annotations that contradict themselves or the images are rejected or reported, not guessed."""

import logging

import pytest

from ssd_jax.data.sources import open_dataset
from ssd_jax.errors import UserError
from tests.data.formats.files import BOX, objects, write_files

XML = (
    "<annotation><filename>{0}</filename><object><name>cat</name><bndbox><xmin>20</xmin>"
    "<ymin>10</ymin><xmax>80</xmax><ymax>60</ymax></bndbox></object></annotation>"
)
SECOND = "<bndbox><xmin>1</xmin><ymin>1</ymin><xmax>5</xmax><ymax>5</ymax></bndbox>"
HEADER = "filename,class,xmin,ymin,xmax,ymax"


def coco(name="a.jpg", **entry):
    entry = {"id": 1, "image_id": 1, "category_id": 1, "bbox": [20, 10, 60, 50]} | entry
    return {
        "images": [{"id": 1, "file_name": name, "width": 200, "height": 100}],
        "annotations": [entry],
        "categories": [{"id": 1, "name": "cat"}],
    }


@pytest.mark.parametrize("tag", ["bndbox", "name"])
def test_an_object_of_voc_has_one_box_and_one_name(tmp_path, tag):
    second = SECOND if tag == "bndbox" else "<name>dog</name>"
    content = XML.format("a.jpg").replace("</object>", f"{second}</object>")
    folder = write_files(tmp_path, {"a.jpg": None, "a.xml": content})
    with pytest.raises(UserError, match=f"an <object> has more than one <{tag}>"):
        open_dataset(folder)


def test_a_list_and_a_file_name_that_differ_in_the_suffix_are_refused(tmp_path):
    files = {
        "JPEGImages/a.jpg": None,
        "JPEGImages/a.png": None,
        "ImageSets/Main/train.txt": "a.jpg",
    }
    folder = write_files(tmp_path, files | {"Annotations/a.xml": XML.format("a.png")})
    with pytest.raises(UserError, match=r"its <filename> is a.png, but a.jpg is listed"):
        open_dataset(folder)


def test_file_names_of_other_images_are_reported(tmp_path, caplog):
    files = {"a.jpg": None, "b.jpg": None, "b.xml": XML.format("b.jpg")}
    folder = write_files(tmp_path, files | {"a.xml": XML.format("b.jpg")})
    with caplog.at_level(logging.WARNING, "ssd_jax"):
        assert objects(folder) == {"a": [("cat", BOX)], "b": [("cat", BOX)]}
    assert "in 1 XML file, <filename> is another existing image" in caplog.text
    assert "a.xml (b.jpg)" in caplog.text


def test_one_box_in_fractions_among_others_is_refused(tmp_path):
    rows = f"{HEADER}\na.jpg,cat,20,10,80,60\na.jpg,cat,0.1,0.1,0.4,0.6\n"
    folder = write_files(tmp_path, {"a.jpg": None, "labels.csv": rows})
    with pytest.raises(UserError, match=r"between 0 and 1, .* \[0.1, 0.1, 0.4, 0.6\]"):
        open_dataset(folder)


def test_a_column_of_splits_is_reported(tmp_path, caplog):
    rows = f"{HEADER},split\na.jpg,cat,20,10,80,60,train\n"
    folder = write_files(tmp_path, {"a.jpg": None, "labels.csv": rows})
    with caplog.at_level(logging.WARNING, "ssd_jax"):
        assert objects(folder) == {"a": [("cat", BOX)]}
    assert "the column split is not used" in caplog.text


@pytest.mark.parametrize("box, area", [([20, 10, 80, 60], 3000), ([100, 20, 160, 90], 4200.0)])
def test_boxes_given_as_two_corners_in_coco_are_rejected(tmp_path, box, area):
    folder = write_files(tmp_path, {"a.jpg": None, "ann.json": coco(bbox=box, area=area)})
    with pytest.raises(UserError, match="by the areas, each bbox is two corners"):
        open_dataset(folder)


def test_parts_of_one_coco_set_are_joined_and_urls_found(tmp_path):
    files = {"images/a.jpg": None, "images/b.jpg": None, "part1.json": coco()}
    folder = write_files(tmp_path, files | {"part2.json": coco("https://x.y/z/b.jpg?sig=1")})
    assert len(open_dataset(folder)) == 2
