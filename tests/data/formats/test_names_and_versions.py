"""Names in another form of Unicode, and two versions of the same annotations, in all formats."""

import unicodedata

import pytest

from ssd_jax.data.sources import open_dataset
from ssd_jax.data.split_names import kind_of
from ssd_jax.errors import UserError
from tests.data.formats.files import BOX, objects, write_files

COMPOSED = unicodedata.normalize("NFC", "Größe é")
APART = unicodedata.normalize("NFD", COMPOSED)
XML = (
    "<annotation><filename>{0}.jpg</filename><object><name>cat</name><bndbox><xmin>20</xmin>"
    "<ymin>10</ymin><xmax>80</xmax><ymax>60</ymax></bndbox></object></annotation>"
)
CVAT = (
    '<annotations><version>1.1</version><image id="0" name="{0}.jpg" width="200" height="100">'
    '<box label="cat" xtl="20" ytl="10" xbr="80" ybr="60"/></image></annotations>'
)
CSV = "filename,width,height,class,xmin,ymin,xmax,ymax\n{0}.jpg,200,100,cat,20,10,80,60\n"
OPEN_IMAGES = "ImageID,LabelName,XMin,XMax,YMin,YMax\n{0},cat,0.1,0.4,0.1,0.6\n"


def coco(name, box=(20, 10, 60, 50)):
    return {
        "images": [{"id": 1, "file_name": f"{name}.jpg", "width": 200, "height": 100}],
        "annotations": [{"id": 1, "image_id": 1, "category_id": 1, "bbox": list(box)}],
        "categories": [{"id": 1, "name": "cat"}],
    }


def labelme(name):
    shape = {"label": "cat", "points": [[20, 10], [80, 60]], "shape_type": "rectangle"}
    return {"shapes": [shape], "imagePath": f"../images/{name}.jpg", "imageData": None}


def via(name):
    region = {
        "shape_attributes": {"name": "rect", "x": 20, "y": 10, "width": 60, "height": 50},
        "region_attributes": {"type": "cat"},
    }
    return {
        f"{name}.jpg1": {
            "filename": f"{name}.jpg",
            "size": 1,
            "file_attributes": {},
            "regions": [region],
        }
    }


FORMATS = {
    "coco_json": lambda name: {"ann.json": coco(name)},
    "voc_xml": lambda name: {f"xml/{name}.xml": XML.format(name)},
    "voc_xml by list": lambda name: {
        f"Annotations/{name}.xml": XML.format(name),
        "ImageSets/Main/train.txt": name,
    },
    "yolo": lambda name: {f"labels/{name}.txt": "0 0.25 0.35 0.3 0.5\n", "classes.txt": "cat"},
    "cvat_xml": lambda name: {"annotations.xml": CVAT.format(name)},
    "labelme": lambda name: {f"json/{name}.json": labelme(name)},
    "via": lambda name: {"via.json": via(name)},
    "csv": lambda name: {"labels.csv": CSV.format(name)},
    "open_images": lambda name: {"boxes.csv": OPEN_IMAGES.format(name)},
}


@pytest.mark.parametrize("on_disk, named", [(COMPOSED, APART), (APART, COMPOSED)])
@pytest.mark.parametrize("files", FORMATS.values(), ids=FORMATS)
def test_images_are_found_by_names_in_another_form_of_unicode(tmp_path, files, on_disk, named):
    folder = write_files(tmp_path, {f"images/{on_disk}.jpg": None} | files(named))
    assert list(objects(folder).values()) == [[("cat", BOX)]]


def test_labels_of_yolo_may_have_other_capitals(tmp_path):
    files = {"images/a.jpg": None, "labels/a.TXT": "0 0.25 0.35 0.3 0.5\n", "classes.txt": "cat"}
    assert objects(write_files(tmp_path, files)) == {"a": [("cat", BOX)]}


VERSIONS = {
    "csv": ("labels.csv", "labels_backup.csv", CSV.format("a")),
    "csv of a split": ("train.csv", "train_old.csv", CSV.format("a")),
    "voc_xml": ("Annotations/a.xml", "Annotations_old/a.xml", XML.format("a")),
    "labelme": ("json/a.json", "json_old/a.json", labelme("a")),
    "open_images": ("boxes.csv", "boxes_old.csv", OPEN_IMAGES.format("a")),
    "coco_json": ("ann.json", "ann_old.json", coco("a")),
}


@pytest.mark.parametrize("first, second, content", VERSIONS.values(), ids=VERSIONS)
def test_two_versions_of_annotations_are_refused(tmp_path, first, second, content):
    folder = write_files(tmp_path, {"images/a.jpg": None, first: content, second: content})
    for role in ("train", "eval"):
        with pytest.raises(UserError):
            open_dataset(folder, role=role)


def test_the_split_with_the_exact_name_is_used(tmp_path):
    files = {
        "images/a.jpg": None,
        "train.json": coco("a"),
        "train-old.json": coco("a", [1, 1, 9, 9]),
    }
    folder = write_files(tmp_path, files)
    assert objects(folder, role="train") == {"1": [("cat", BOX)]}
    both = {f"train{year}/a.jpg": None for year in (2014, 2017)}
    both |= {f"annotations/instances_train{year}.json": coco("a") for year in (2014, 2017)}
    folder = write_files(tmp_path / "coco", both)
    with pytest.raises(UserError, match=r"2 splits for train \(train2014, train2017\): name"):
        open_dataset(folder, role="train")
    assert len(open_dataset(f"{folder}:train2017", role="train")) == 1


def test_train_val_is_trainval():
    assert kind_of("train_val") == kind_of("TrainVal") == "trainval"
    assert kind_of("train-2017") == "train"
