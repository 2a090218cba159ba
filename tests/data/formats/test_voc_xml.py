"""Pascal VOC's XML in the layouts of the tools that write it, with their special elements."""

import logging

import pytest

from ssd_jax.data.discovery import Role
from ssd_jax.data.sources import open_dataset
from ssd_jax.errors import UserError
from tests.helpers.pictures import write_picture
from tests.helpers.read_boxes import read_boxes
from tests.helpers.reference_results import shared

THE_BOX = [6, 4, 30, 20]
SIZE = "<size><width>60</width><height>40</height><depth>3</depth></size>"
BOX = "<bndbox><xmin>6</xmin><ymin>4</ymin><xmax>30</xmax><ymax>20</ymax></bndbox>"


def xml(file_name="x.jpg", name="cat", inside=BOX, size=SIZE):
    return (
        f"<annotation><folder>x</folder><filename>{file_name}</filename>{size}<object>"
        f"<name>{name}</name><difficult>0</difficult>{inside}</object></annotation>"
    )


def fill(root, *files):
    """Writes images, and XML files whose class is the stem of their name."""
    for file in files:
        path = root / file
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.suffix == ".xml":
            path.write_text(xml(f"{path.stem}.jpg", path.stem))
        else:
            write_picture(path)


def write_list(root, split, *lines, folder="ImageSets/Main"):
    path = root / folder / f"{split}.txt"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{line}\n" for line in lines))
    return f"voc_xml:{root}:{split}"


def classes(*ids):
    """The objects that `fill` wrote for these images."""
    return {image_id: [(image_id.rpartition("/")[2], THE_BOX)] for image_id in ids}


# ---- where the files lie


# Files below the folder; then for each role the explicit source and the images that it has.
FOLDERS: dict[str, tuple[list[str], dict[Role, tuple[str, list[str]]]]] = {
    "labelImg, beside the images": (["a.jpg", "a.xml", "b c.png", "b c.xml"], {
        "train": ("voc_xml:{0}:{0}", ["a", "b c"]),
    }),
    "labelImg, in subfolders": (["x/a.jpg", "x/a.xml", "y/b.jpg", "y/b.xml"], {
        "train": ("voc_xml:{0}:{0}", ["x/a", "y/b"]),
    }),
    "roboflow": (
        ["train/a.jpg", "train/a.xml", "valid/b.jpg", "valid/b.xml", "test/c.jpg", "test/c.xml"],
        {
            "train": ("voc_xml:{0}/train:{0}/train", ["a"]),
            "eval": ("voc_xml:{0}/valid:{0}/valid", ["b"]),
        },
    ),
    "annots and images": (["annots/a.xml", "images/a.jpg", "images/b.jpg"], {
        "train": ("voc_xml:{0}/annots:{0}/images", ["a"]),
    }),
    "xmls in a folder of their own": (["set/annotations/xmls/a.xml", "set/images/a.jpg"], {
        "train": ("voc_xml:{0}/set/annotations/xmls:{0}/set/images", ["a"]),
    }),
    "labels and data": (["labels/a.xml", "data/a.png"], {
        "train": ("voc_xml:{0}/labels:{0}/data", ["a"]),
    }),
    "splits above": (
        ["train/annotations/a.xml", "train/images/a.jpg", "val/annotations/b.xml",
         "val/images/b.jpg"],
        {
            "train": ("voc_xml:{0}/train/annotations:{0}/train/images", ["a"]),
            "eval": ("voc_xml:{0}/val/annotations:{0}/val/images", ["b"]),
        },
    ),
    "splits below": (
        ["annotations/train/a.xml", "images/train/a.jpg", "annotations/test/b.xml",
         "images/test/b.jpg"],
        {
            "train": ("voc_xml:{0}/annotations/train:{0}/images/train", ["a"]),
            "eval": ("voc_xml:{0}/annotations/test:{0}/images/test", ["b"]),
        },
    ),
    "tutorials, copies above the splits": (
        ["images/a.jpg", "images/a.xml", "images/train/a.jpg", "images/train/a.xml",
         "images/test/b.jpg", "images/test/b.xml"],
        {
            "train": ("voc_xml:{0}/images/train:{0}/images/train", ["a"]),
            "eval": ("voc_xml:{0}/images/test:{0}/images/test", ["b"]),
        },
    ),
    "VOC's folders without lists": (
        ["Annotations/v/a.xml", "JPEGImages/v/a.jpg", "SegmentationClass/v/a.png"],
        {"train": ("voc_xml:{0}/Annotations:{0}/JPEGImages", ["v/a"])},
    ),
    "xmls beside outlines in images": (
        ["annotations/xmls/a.xml", "annotations/trimaps/a.png", "images/a.jpg"],
        {"train": ("voc_xml:{0}/annotations/xmls:{0}/images", ["a"])},
    ),
    "a set of masks that people wear": (
        ["masks/annotations/a.xml", "masks/images/a.jpg"],
        {"train": ("voc_xml:{0}/masks/annotations:{0}/masks/images", ["a"])},
    ),
    "images of several folders": (
        ["Annotations/a.xml", "Annotations/b.xml", "imgs/x/a.jpg", "imgs/y/b.jpg"],
        {"train": ("voc_xml:{0}/Annotations:{0}/imgs", ["x/a", "y/b"])},
    ),
}  # fmt: skip


@pytest.mark.parametrize("layout", FOLDERS)
def test_folders_without_lists(tmp_path, layout):
    files, sources = FOLDERS[layout]
    fill(tmp_path, *files)
    for role, (spec, ids) in sources.items():
        assert read_boxes(spec.format(tmp_path)) == classes(*ids)
        assert read_boxes(str(tmp_path), role=role) == classes(*ids)


def test_the_layout_of_voc_with_its_lists_of_one_class(tmp_path):
    root = tmp_path / "VOCdevkit/VOC2007"
    for name in "abc":
        fill(root, f"Annotations/{name}.xml", f"JPEGImages/{name}.jpg")
    fill(root, "SegmentationClass/a.png")
    specs = [write_list(root, "train", "a"), write_list(root, "val", "b")]
    write_list(root, "trainval", "a", "b")
    write_list(root, "cat_train", "a  1", "b -1")
    write_list(root, "test", "z")  # images whose annotations are not published
    other = tmp_path / "VOCdevkit/VOC2012"
    fill(other, "Annotations/d.xml", "JPEGImages/d.jpg")
    specs.append(write_list(other, "train", "d"))
    assert read_boxes(str(tmp_path), role="train") == read_boxes(f"{specs[0]},{specs[2]}")
    assert read_boxes(str(tmp_path), role="train") == classes("a", "d")
    assert read_boxes(str(tmp_path), role="eval") == read_boxes(specs[1]) == classes("b")
    assert read_boxes(f"{tmp_path}:trainval") == classes("a", "b")
    assert read_boxes(str(tmp_path)) == classes("a", "b", "d")


def test_a_task_of_cvat_in_the_layout_of_voc(tmp_path):
    for name in ("vid 1/a", "vid 1/b c", "d"):
        fill(tmp_path, f"Annotations/{name}.xml", f"JPEGImages/{name}.jpg")
    lines = ['"vid 1/a"', '"vid 1/b c"', "d"]
    spec = write_list(tmp_path, "default", *lines)
    write_list(tmp_path, "cat_default", *(f"{line}  1" for line in lines))
    (tmp_path / "labelmap.txt").write_text("# label:color_rgb:parts:actions\ncat:128,0,0::\n")
    expected = classes("vid 1/a", "vid 1/b c", "d")
    assert read_boxes(spec) == read_boxes(str(tmp_path), role="train") == expected
    assert read_boxes(f"voc_xml:{tmp_path}:cat_default") == expected


@pytest.mark.parametrize("folder", ["ImageSets", "."])
def test_lists_in_other_folders(tmp_path, folder):
    fill(tmp_path, "annotations/a.xml", "images/a.jpg", "annotations/b.xml", "images/b.jpg")
    spec = write_list(tmp_path, "train", "a", folder=folder)
    assert read_boxes(spec) == read_boxes(str(tmp_path), role="train") == classes("a")


@pytest.mark.parametrize(
    "line",
    [
        "vid1/a",
        "vid1\\a",
        "vid1/a.jpg",
        "JPEGImages/vid1/a.jpg",
        "./vid1/a",
        "a",
        "a.JPG",
        "vid1/a 1",
        '"vid1/a" 0',
        "JPEGImages/vid1/a.jpg Annotations/vid1/a.xml",
        "{root}/JPEGImages/vid1/a.jpg",
    ],
)
def test_names_in_lists(tmp_path, line):
    fill(tmp_path, "Annotations/vid1/a.xml", "JPEGImages/vid1/a.jpg", "JPEGImages/b.jpg")
    assert read_boxes(write_list(tmp_path, "x", line.format(root=tmp_path))) == classes("vid1/a")


@pytest.mark.parametrize(
    "line, complaint",
    [
        ("a 2", "lists 'a 2', but"),
        ("b", "b.xml: does not exist"),
        ("vid2/a", "lists 'vid2/a', but"),
        ("/elsewhere/a.jpg", "which is outside"),
        ("..\\JPEGImages\\a", "which is outside"),
        ("same", "'same' may be x/same.jpg and y/same.jpg"),
    ],
)
def test_names_in_lists_that_are_of_no_image(tmp_path, line, complaint):
    fill(tmp_path, "Annotations/a.xml", "JPEGImages/a.jpg", "JPEGImages/b.jpg")
    fill(tmp_path, "JPEGImages/x/same.jpg", "JPEGImages/y/same.jpg", "Annotations/same.xml")
    with pytest.raises(UserError) as error:
        open_dataset(write_list(tmp_path, "x", line))
    assert complaint in str(error.value)


def test_blanks_and_marks(tmp_path):
    """A whole line that names an image is a name, even if it ends like a mark."""
    for name in ("IMG", "IMG 1", "IMG -1"):
        fill(tmp_path, f"Annotations/{name}.xml", f"JPEGImages/{name}.jpg")
    spec = write_list(tmp_path, "train", "IMG 1", "IMG -1")
    assert read_boxes(spec) == classes("IMG 1", "IMG -1")
    spec = write_list(tmp_path, "train", "IMG 1  1", "IMG -1  -1", "IMG  0")
    assert read_boxes(spec) == classes("IMG 1", "IMG")
    with pytest.raises(UserError, match=r"lists 'IMG 0', but"):  # and not IMG
        open_dataset(write_list(tmp_path, "train", "IMG 1", "IMG 0"))


def test_images_of_one_stem_need_a_file_name(tmp_path):
    fill(tmp_path, "a.jpg", "a.png", "a.xml")
    (record,) = open_dataset(str(tmp_path))
    assert record.path.endswith("a.jpg")
    (tmp_path / "a.xml").write_text(xml("A.bmp"))
    with pytest.raises(UserError, match=r"'a' may be a\.jpg and a\.png .*different names"):
        open_dataset(str(tmp_path))


def test_the_file_name_finds_an_image_that_has_another_stem(tmp_path):
    fill(tmp_path, "xml/1.xml", "images/a b.jpg")
    (tmp_path / "xml/1.xml").write_text(xml("a b.jpg"))
    for spec in (f"voc_xml:{tmp_path}/xml:{tmp_path}/images", str(tmp_path)):
        assert read_boxes(spec) == {"a b": [("cat", THE_BOX)]}
    (tmp_path / "xml/2.xml").write_text(xml("a b.jpg"))
    with pytest.raises(UserError, match=r"2\.xml: describes a b\.jpg, as 1\.xml does"):
        open_dataset(str(tmp_path))


def test_images_and_files_that_are_left_out_are_reported(tmp_path, caplog, monkeypatch):
    monkeypatch.setattr(logging.getLogger("ssd_jax"), "propagate", True)
    fill(tmp_path, "a.xml", "a.jpg", "b.jpg", "c.jpg")
    (tmp_path / "other.xml").write_text("<project/>")
    assert read_boxes(f"voc_xml:{tmp_path}:{tmp_path}") == classes("a")
    assert "left out 2 images without an XML file: b.jpg, c.jpg" in caplog.text
    assert "left out 1 XML file of other kinds: other.xml" in caplog.text


def test_two_folders_of_the_same_images_are_refused_with_both(tmp_path):
    fill(tmp_path, "ann/a.xml", "large/a.jpg", "small/a.jpg")
    with pytest.raises(UserError, match=r"voc_xml:.*/ann:.*/large or voc_xml:.*/ann:.*/small"):
        open_dataset(str(tmp_path))


def test_drawings_next_to_the_annotations_are_not_used_as_images(tmp_path):
    fill(tmp_path, "annotations/a.xml", "annotations/a.png", "images/a.jpg")
    with pytest.raises(UserError, match=r"voc_xml:.*/annotations or voc_xml:.*/images"):
        open_dataset(str(tmp_path))


@pytest.mark.parametrize("name", ["BCCD", "raccoon"])
def test_real_data_as_a_folder(name):
    folder = shared(f"data/{name}")
    assert read_boxes(str(folder), role="train") == read_boxes(f"voc_xml:{folder}:train")
    split = "val" if name == "BCCD" else "test"
    assert read_boxes(str(folder), role="eval") == read_boxes(f"voc_xml:{folder}:{split}")


# ---- what is in the files

PART = f"<part><name>head</name>{BOX.replace('30', '9')}</part>"


@pytest.mark.parametrize(
    "inside",
    [
        BOX,
        PART + BOX,
        "<bndbox><ymax> 20 </ymax><xmax>3e1</xmax><ymin>4.0</ymin><xmin>\n6.00</xmin></bndbox>",
        "<polygon><x1>6</x1><y1>4</y1><x2>30</x2><y2>4</y2><x3>20</x3><y3>20</y3></polygon>",
        "<polygon><pt><x>6</x><y>20</y></pt><pt><x>30</x><y>4</y></pt></polygon>",
        "<points>6,4;30,4;30,20</points>",
        "<robndbox><cx>18</cx><cy>12</cy><w>16</w><h>24</h><angle>1.57079633</angle></robndbox>",
        BOX + "<truncated>1</truncated><occluded>1</occluded><pose>Left</pose>",
        BOX + "</object><object><name>old</name><deleted>1</deleted>" + BOX,
    ],
)
def test_boxes_as_tools_write_them(tmp_path, inside):
    fill(tmp_path, "a.jpg")
    (tmp_path / "a.xml").write_text(xml(name=" big cat\n", inside=inside))
    assert read_boxes(str(tmp_path)) == {"a": [("big cat", THE_BOX)]}


@pytest.mark.parametrize(
    "size",
    [
        "",
        "<size/>",
        "<size><width>0</width><height>0</height></size>",
        "<size><width>60.0</width><height> 40 </height></size>",
        "<imagesize><nrows>40</nrows><ncols>60</ncols></imagesize>",
    ],
)
def test_sizes_as_tools_write_them(tmp_path, size):
    fill(tmp_path, "a.jpg")
    (tmp_path / "a.xml").write_text(xml(size=size))
    assert read_boxes(str(tmp_path)) == {"a": [("cat", THE_BOX)]}


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "latin-1", "gbk", "big5"])
def test_encodings(tmp_path, encoding):
    fill(tmp_path, "a.jpg")
    name = {"latin-1": "Löwe", "gbk": "猫", "big5": "貓"}.get(encoding, "猫")
    declared = encoding.removesuffix("-sig")
    text = f'<?xml version="1.0" encoding="{declared}"?>\n' + xml(name=name)
    (tmp_path / "a.xml").write_bytes(text.encode(encoding))
    assert read_boxes(str(tmp_path)) == {"a": [(name, THE_BOX)]}


@pytest.mark.parametrize("word, is_hard", [("1", True), ("true", True), ("Unspecified", False)])
def test_difficult_objects(tmp_path, word, is_hard):
    fill(tmp_path, "a.jpg")
    text = xml().replace("<difficult>0", f"<difficult>{word}")
    (tmp_path / "a.xml").write_text(text)
    (record,) = open_dataset(str(tmp_path))
    assert record.difficult.tolist() == [is_hard]


@pytest.mark.parametrize("damage", ["objec", "nested"])
def test_a_box_outside_an_object_is_refused(tmp_path, damage):
    fill(tmp_path, "a.jpg")
    text = xml().replace("object>", "objec>")
    (tmp_path / "a.xml").write_text(
        text if damage == "objec" else f"<annotation>{xml()}</annotation>"
    )
    with pytest.raises(UserError, match=r"a\.xml: a <bndbox> is not in an <object>"):
        open_dataset(str(tmp_path))
