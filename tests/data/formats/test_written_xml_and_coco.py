"""Data sets of the writers of Pascal VOC, labelImg, COCO and CVAT are read back unchanged."""

import pytest

from ssd_jax.data.records import Object
from tests.helpers.pictures import write_picture
from tests.helpers.read_boxes import read_boxes
from tools.formats import coco_json, cvat_xml, labelimg, voc_xml
from tools.formats.picture import Picture

OBJECTS = (
    Object("traffic light", (6.25, 4, 30.5, 20)),
    Object("Löwe & <猫>", (0, 0, 60, 40), difficult=True),
)


@pytest.mark.parametrize("writer", [voc_xml, labelimg, coco_json, cvat_xml])
def test_round_trip(tmp_path, writer):
    pictures = []
    for name, objects in (("sub dir/a (1).jpg", OBJECTS), ("b.png", ()), ("ü.jpg", OBJECTS[:1])):
        write_picture(tmp_path / "originals" / name)
        encoded = (tmp_path / "originals" / name).read_bytes()
        pictures.append(Picture(name, encoded, (40, 60), objects))
    writer.write(pictures, tmp_path / "set")
    boxes = list(read_boxes(str(tmp_path / "set"), role="train").values())
    expected = [[(each.name, list(each.box)) for each in picture.objects] for picture in pictures]
    assert sorted(map(str, boxes)) == sorted(str(own) for own in _as_floats(expected))


def _as_floats(images):
    return [[(name, [float(x) for x in box]) for name, box in image] for image in images]
