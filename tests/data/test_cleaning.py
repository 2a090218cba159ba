"""The cleaning stage: sizes, units, clipping, dropping, and its messages."""

import logging

import numpy as np
import pytest
from PIL import Image

from ssd_jax.data import columns
from ssd_jax.data.annotations import Annotations
from ssd_jax.data.classes import Classes
from ssd_jax.data.problems import Problems
from ssd_jax.data.records import Object, annotation
from ssd_jax.errors import UserError


@pytest.fixture(scope="module")
def image(tmp_path_factory):
    """An image of 200 × 100."""
    path = tmp_path_factory.mktemp("images") / "a.jpg"
    Image.new("RGB", (200, 100), "green").save(path)
    return path


@pytest.fixture
def told(caplog, monkeypatch):
    monkeypatch.setattr(logging.getLogger("ssd_jax"), "propagate", True)
    caplog.set_level(logging.WARNING)
    return lambda: [record.getMessage() for record in caplog.records]


def clean(image, *boxes, names=None, problems=None, **options):
    """The records of one image with these boxes; the class is cat by default."""
    names = names or ["cat"] * len(boxes)
    objects = [Object(name, box) for name, box in zip(names, boxes, strict=True)]
    read = Annotations([annotation("a", image, "a.xml", objects, **options)], "set")
    return read.with_classes(Classes(("cat", "dog")), problems or Problems())


@pytest.mark.parametrize(
    "unit, box", [("pixels", (20, 10, 80, 60)), ("fractions", (0.1, 0.1, 0.4, 0.6))]
)
@pytest.mark.parametrize("size", [None, (100, 200), (0, 0)])
def test_boxes_become_fractions_from_each_unit(image, unit, box, size):
    (record,) = clean(image, box, unit=unit, size=size)
    np.testing.assert_array_equal(record.boxes, np.float32([[0.1, 0.1, 0.4, 0.6]]))
    assert record.size == (100, 200) and record.labels.tolist() == [1]


@pytest.mark.parametrize(
    "size, kind, meant",
    [
        ((200, 100), "size differs", "probably width and height were exchanged"),
        ((50, 100), "size differs", "probably the image was resized by 2 after it was annotated"),
        ((100, 199), "size differs", "states 199 × 100, but the image has 200 × 100 pixels"),
    ],
)
def test_another_size_than_stated(image, size, kind, meant):
    with pytest.raises(UserError, match=meant):
        clean(image, (20, 10, 80, 60), size=size)
    problems = Problems("skip", 1.0)
    assert len(clean(image, (20, 10, 80, 60), size=size, problems=problems)) == 0
    assert problems.found[0].problems[0].kind == kind


def test_an_image_that_exif_turns(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    path = tmp_path / "turned.jpg"
    Image.new("RGB", (200, 100)).save(path, exif=exif)
    with pytest.raises(UserError, match=r"EXIF rotates the image to 100 × 200.*annotated as 200"):
        clean(path, (20, 10, 80, 60), size=(100, 200))
    (record,) = clean(path, (20, 10, 80, 60), size=(200, 100))
    np.testing.assert_array_equal(record.boxes, np.float32([[0.2, 0.05, 0.8, 0.3]]))


def test_fractions_instead_of_pixels_and_pixels_instead_of_fractions(image):
    with pytest.raises(UserError, match="are between 0 and 1, but must be in pixels"):
        clean(image, (0.1, 0.1, 0.4, 0.6))
    with pytest.raises(UserError, match=r"reach 80, but must be fractions"):
        clean(image, (20, 10, 80, 60), unit="fractions")
    # One box of a pixel beside others, and a box of no area, say nothing about the unit.
    (record,) = clean(image, (0, 0, 1, 1), (20, 10, 80, 60), (0, 0, 0, 0))
    assert len(record.boxes) == 2
    assert len(clean(image, (0, 0, 0, 0))[0].boxes) == 0


def test_clipped_dropped_and_repeated_boxes_are_reported_with_the_image(image, told):
    (record,) = clean(
        image, (-20, 10, 80, 60), (20, 10, 20, 60), (300, 10, 400, 60), (20, 10, 80, 60),
        (20, 10, 80, 60), (20, 10, 80, 60), names=["cat"] * 5 + ["dog"],
    )  # fmt: skip
    np.testing.assert_allclose(
        record.boxes, [[0, 0.1, 0.4, 0.6], *[[0.1, 0.1, 0.4, 0.6]] * 3], rtol=1e-6
    )
    assert told() == [
        "set: dropped 2 boxes without area: a.jpg (2)",
        "set: clipped 1 box at the edge of the image: a.jpg",
        "set: kept 1 box twice: a.jpg",
    ]


def test_images_of_one_name_are_reported_with_their_folders(tmp_path, told):
    read = []
    for folder in ("day 1", "day 2"):
        (tmp_path / folder).mkdir()
        Image.new("RGB", (200, 100)).save(tmp_path / folder / "a.jpg")
        read.append(annotation(folder, tmp_path / folder / "a.jpg", "x", [Object("cat", [-9] * 4)]))
    Annotations(read, "set").with_classes(Classes(("cat",)), Problems())
    assert told() == ["set: dropped 2 boxes without area: day 1/a.jpg, day 2/a.jpg"]


def test_less_than_half_a_pixel_outside_is_rounding(image, told):
    (record,) = clean(image, (-0.4, 10, 200.4, 60))
    assert record.boxes[0].tolist() == pytest.approx([0, 0.1, 1, 0.6]) and told() == []


def test_an_image_that_cannot_be_opened(tmp_path):
    path = tmp_path / "torn.jpg"
    path.write_bytes(b"no image")
    with pytest.raises(UserError, match=r"torn\.jpg: the image cannot be read"):
        clean(path, (20, 10, 80, 60), size=(100, 200))
    # Left out where damaged images are skipped: later, with its place in a batch; at once where
    # its boxes cannot be read without its size.
    (record,) = clean(path, (20, 10, 80, 60), size=(100, 200), problems=Problems("skip", 1.0))
    np.testing.assert_array_equal(record.boxes, np.float32([[0.1, 0.1, 0.4, 0.6]]))
    assert len(clean(path, (20, 10, 80, 60), problems=Problems("skip", 1.0))) == 0


def test_an_image_inside_a_larger_file(image, tmp_path):
    content = image.read_bytes()
    (tmp_path / "many").write_bytes(b"before" + content + b"behind")
    (record,) = clean(tmp_path / "many", (20, 10, 80, 60), span=(6, len(content)))
    assert record.encoded == content and record.image == content and record.size == (100, 200)
    with pytest.raises(UserError, match="ends inside an image"):
        clean(tmp_path / "many", (20, 10, 80, 60), span=(6, 10**6))


@pytest.mark.parametrize("at_once", [1, 3, 10**6])
def test_the_number_of_objects_computed_together_does_not_matter(image, told, monkeypatch, at_once):
    monkeypatch.setattr(columns, "AT_ONCE", at_once)
    boxes = {
        "a": [(0, 10, 80, 60), (20, 10, 80, 60), (-0.0, 10, 80, 60), (20, 10, 20, 60)],
        "b": [],
        "c": [(20, 10, 80, 60), (190, 90, 210, 100), (20, 10, 80, 60), (20, 10, 80, 60)],
        "d": [(150, 10, 200, 60)],
    }
    read = Annotations(
        [
            annotation(name, image, f"{name}.xml", [Object("cat", box) for box in own])
            for name, own in boxes.items()
        ],
        "set",
    )
    stops = [piece.stop for piece in read.columns.pieces()]
    assert stops == ([9] if at_once > 9 else [4, 4, 8, 9])
    records = read.with_classes(Classes(("cat",)), Problems())
    assert np.diff(records.columns.splits).tolist() == [3, 0, 4, 1]
    np.testing.assert_allclose(records[0].boxes[:, 0], [0, 0.1, 0])
    np.testing.assert_allclose(records[2].boxes[1], [0.95, 0.9, 1, 1])
    folder = image.parent.name
    assert told() == [
        "set: dropped 1 box without area: a.jpg",
        "set: clipped 1 box at the edge of the image: a.jpg",
        f"set: kept 3 boxes twice: {folder}/a.jpg, {folder}/a.jpg (2)",
    ]
