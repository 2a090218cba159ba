"""CVAT's own XML: of images, and of a video."""

import logging

import pytest

from ssd_jax.data.problems import Problems
from ssd_jax.data.sources import open_dataset
from ssd_jax.errors import UserError
from tests.helpers.pictures import write_picture
from tests.helpers.read_boxes import read_boxes

BOX = '<box label="cat" source="manual" occluded="0" xtl="6.00" ytl="4.00" xbr="30.00" ybr="20.00" z_order="0"></box>'  # noqa: E501
THE_BOX = [6, 4, 30, 20]
META = (
    "<version>1.1</version><meta><{kind}><id>1</id><size>{size}</size>"
    "<start_frame>{start}</start_frame><stop_frame>{stop}</stop_frame><labels>"
    "<label><name>dog</name><attributes><attribute><name>age</name></attribute></attributes></label>"
    "<label><name>cat</name><attributes></attributes></label></labels>"
    "<original_size><width>60</width><height>40</height></original_size></{kind}></meta>"
)


def image(name, shapes=BOX, extra=""):
    return f'<image id="0" name="{name}" {extra} width="60" height="40">{shapes}</image>'


def write(path, *elements, meta=""):
    path.parent.mkdir(parents=True, exist_ok=True)
    text = '<?xml version="1.0" encoding="utf-8"?>\n<annotations>\n'
    path.write_text(text + meta + "\n".join(elements) + "</annotations>\n")


def pictures(root, *names):
    for name in names:
        write_picture(root / name)


def test_a_task_with_subfolders_and_blanks(tmp_path):
    names = ["a.jpg", "vid 1/b &amp; c.jpg"]
    write(tmp_path / "annotations.xml", *map(image, names), image("d.png", ""))
    pictures(tmp_path / "images", "a.jpg", "vid 1/b & c.jpg", "d.png")
    expected = {"a": [("cat", THE_BOX)], "vid 1/b & c": [("cat", THE_BOX)], "d": []}
    spec = f"cvat_xml:{tmp_path}/annotations.xml:{tmp_path}/images"
    assert read_boxes(spec) == read_boxes(str(tmp_path), role="train") == expected
    assert read_boxes(str(tmp_path / "annotations.xml")) == expected


def test_the_order_of_the_labels_equals_that_of_the_file(tmp_path):
    dog = BOX.replace("cat", "dog")
    meta = META.format(kind="task", size=1, start=0, stop=0)
    write(tmp_path / "annotations.xml", image("a.jpg", BOX + dog), meta=meta)
    pictures(tmp_path, "a.jpg")
    assert open_dataset(str(tmp_path)).class_names == ("dog", "cat")


def test_a_project_with_subsets(tmp_path):
    elements = [
        image("a.jpg", extra='subset="Train"'),
        image("a.jpg", "", extra='subset="Validation"'),
    ]
    write(tmp_path / "annotations.xml", *elements)
    pictures(tmp_path / "images", "Train/a.jpg", "Validation/a.jpg")
    assert read_boxes(str(tmp_path), role="train") == {"a": [("cat", THE_BOX)]}
    assert read_boxes(str(tmp_path), "cat", role="eval") == {"a": []}
    # The folder of all images gives all subsets.
    whole = f"cvat_xml:{tmp_path}/annotations.xml:{tmp_path}/images"
    assert read_boxes(whole) == {"Train/a": [("cat", THE_BOX)], "Validation/a": []}
    # Subsets of other names are no splits.
    renamed = tmp_path / "annotations.xml"
    renamed.write_text(renamed.read_text().replace("Train", "one").replace("Validation", "two"))
    (tmp_path / "images" / "Train").rename(tmp_path / "images" / "one")
    (tmp_path / "images" / "Validation").rename(tmp_path / "images" / "two")
    assert read_boxes(str(tmp_path)) == {"one/a": [("cat", THE_BOX)], "two/a": []}


def test_frames_of_a_video_annotated_as_images(tmp_path):
    write(tmp_path / "annotations.xml", image("frame_000000"), image("frame_000001", ""))
    pictures(tmp_path / "images", "frame_000000.PNG", "frame_000001.PNG")
    expected = {"frame_000000": [("cat", THE_BOX)], "frame_000001": []}
    assert read_boxes(str(tmp_path)) == expected


def test_splits_equal_those_of_the_folders(tmp_path):
    for split in ("train", "val"):
        write(tmp_path / split / "annotations.xml", image(f"{split}.jpg"))
        pictures(tmp_path / split / "images", f"{split}.jpg")
    assert list(read_boxes(str(tmp_path), role="train")) == ["train"]
    assert list(read_boxes(str(tmp_path), role="eval")) == ["val"]


@pytest.mark.parametrize(
    "shape",
    [
        '<box label="cat" xtl="10" ytl="0" xbr="26" ybr="24" rotation="90.0" />',
        '<polygon label="cat" points="6.0,4.0;30.0,4.0;20,20"></polygon>',
        '<polyline label=" cat " points="6,4;30,20"/>',
        '<ellipse label="cat" cx="18" cy="12" rx="12" ry="8"/>',
        '<ellipse label="cat" cx="18" cy="12" rx="8" ry="12" rotation="90"/>',
        '<mask label="cat" rle="0, 384" left="6" top="4" width="24" height="16"/>',
        '<cuboid label="cat" xtl1="6" ytl1="4" xbl1="6" ybl1="20" xtr1="20" ytr1="4" xbr1="20" '
        'ybr1="20" xtl2="12" ytl2="5" xbl2="12" ybl2="9" xtr2="30" ytr2="5" xbr2="30" ybr2="9"/>',
    ],
)
def test_shapes_give_the_box_round_them(tmp_path, shape):
    write(tmp_path / "annotations.xml", image("a.jpg", shape))
    pictures(tmp_path, "a.jpg")
    assert read_boxes(str(tmp_path)) == {"a": [("cat", THE_BOX)]}


def test_elements_without_a_box_are_reported(tmp_path, caplog, monkeypatch):
    monkeypatch.setattr(logging.getLogger("ssd_jax"), "propagate", True)
    others = '<points label="cat" points="1,2"/><tag label="cat"/>'
    others += '<skeleton label="man"><points label="1" points="1,2"/></skeleton>'
    write(tmp_path / "annotations.xml", image("a.jpg", BOX + others))
    pictures(tmp_path, "a.jpg")
    assert read_boxes(str(tmp_path)) == {"a": [("cat", THE_BOX)]}
    assert "left out elements without a box: points (1), tag (1), skeleton (1)" in caplog.text


# ---- video


def track(*boxes):
    """A track of (frame, left edge, outside)."""
    listed = "".join(
        f'<box frame="{frame}" keyframe="1" outside="{outside}" occluded="0" xtl="{left}" '
        f'ytl="4" xbr="{left + 10}" ybr="20" z_order="0"></box>'
        for frame, left, outside in boxes
    )
    return f'<track id="0" label="cat" source="manual">{listed}</track>'


def box(left):
    return [("cat", [left, 4, left + 10, 20])]


@pytest.mark.parametrize(
    "names", [[f"frame_{i:06d}.PNG" for i in range(5)], [f"shot{i}.jpg" for i in range(1, 6)]]
)
def test_a_video(tmp_path, names):
    """Frames are identified by their numbers, or by their order if the numbers differ."""
    meta = META.format(kind="job", size=5, start=0, stop=4)
    write(tmp_path / "annotations.xml", track((1, 10, 0), (3, 20, 0), (4, 20, 1)), meta=meta)
    pictures(tmp_path / "images", *names)
    found = read_boxes(str(tmp_path), role="train")
    assert list(found.values()) == [[], box(10), box(15), box(20), []]
    assert found == read_boxes(f"cvat_xml:{tmp_path}/annotations.xml:{tmp_path}/images")


def test_only_existing_frames_of_a_video_are_used(tmp_path, caplog, monkeypatch):
    monkeypatch.setattr(logging.getLogger("ssd_jax"), "propagate", True)
    write(tmp_path / "annotations.xml", track((5, 10, 0), (6, 12, 0), (9, 12, 1), (12, 20, 0)))
    pictures(tmp_path / "images", "frame_000005.png", "frame_000010.png")
    assert read_boxes(str(tmp_path)) == {"frame_000005": box(10), "frame_000010": []}
    assert "left out 4 frames with objects but without an image" in caplog.text


def test_unrecognized_frames_are_rejected(tmp_path):
    write(tmp_path / "annotations.xml", track((0, 10, 0)))
    pictures(tmp_path / "images", "x.jpg", "y.jpg")
    with pytest.raises(UserError, match=r"its frames are not recognized among the 2 images"):
        open_dataset(str(tmp_path))


# ---- damage


@pytest.mark.parametrize(
    "shapes, complaint",
    [
        (BOX.replace("6.00", "x"), "xtl of a <box> is 'x', which is not a number"),
        (BOX.replace("6.00", "nan"), "xtl of a <box> is 'nan'"),
        (BOX.replace("xtl", "left"), "xtl of a <box> is ''"),
        (BOX.replace('label="cat"', ""), "a shape has no label"),
        ('<polygon label="cat" points="1,2,3"/>', "points of a <polygon> is '1,2,3'"),
    ],
)
def test_damaged_shapes_stop_or_are_left_out(tmp_path, shapes, complaint):
    write(tmp_path / "a.xml", image("good.jpg"), image("bad.jpg", shapes))
    pictures(tmp_path, "good.jpg", "bad.jpg")
    spec = f"cvat_xml:{tmp_path}/a.xml:{tmp_path}"
    with pytest.raises(UserError) as error:
        open_dataset(spec)
    assert complaint in str(error.value) and "a.xml" in str(error.value)
    problems = Problems("skip", 0.5)
    assert [record.image_id for record in open_dataset(spec, (), problems)] == ["good"]
    assert [found.image_id for found in problems.found] == ["bad.jpg"]


@pytest.mark.parametrize(
    "elements, complaint",
    [
        ([image("b.jpg")], "'b.jpg' is not in"),
        ([image("../b.jpg")], "'../b.jpg' is outside"),
        ([image("a.jpg")] * 2, "lists 'a.jpg' twice"),
        ([image("a.jpg").replace('"60"', '"wide"')], "('wide', '40'), which are not pixels"),
        ([], "lists no images"),
        (["<image"], "cannot be read as XML"),
    ],
)
def test_damaged_files_stop(tmp_path, elements, complaint):
    write(tmp_path / "a.xml", *elements)
    pictures(tmp_path, "a.jpg")
    with pytest.raises(UserError) as error:
        open_dataset(f"cvat_xml:{tmp_path}/a.xml:{tmp_path}")
    assert complaint in str(error.value) and "a.xml" in str(error.value)


def test_a_file_of_another_kind_is_named(tmp_path):
    (tmp_path / "a.xml").write_text("<annotation/>")
    with pytest.raises(UserError, match=r"begins with <annotation>, not <annotations>"):
        open_dataset(f"cvat_xml:{tmp_path}/a.xml:{tmp_path}")
