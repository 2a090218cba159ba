"""Every format with a writer is read by the name of its folder."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ssd_jax.data.formats.shapes import CLASS_NAMES, draw_example, file_name
from ssd_jax.data.records import Object
from ssd_jax.data.sources import open_dataset
from tests.helpers.reference_results import shared
from tools.every_format import largest_difference, take_pictures, try_format
from tools.formats.picture import Picture
from tools.formats.writers import writers


@pytest.fixture(scope="module")
def pictures():
    """Eight images of shapes, the last one without its objects."""
    pictures = []
    for index in range(8):
        encoded, boxes, labels = draw_example("test", index)
        image = encoded.getvalue()
        width, height = Image.open(encoded).size
        in_pixels = (boxes * (width, height, width, height)).round(2).tolist()
        objects = tuple(
            Object(CLASS_NAMES[label], box)
            for label, box in zip(labels, in_pixels, strict=True)
            if index < 7
        )
        pictures.append(Picture(file_name("test", index), image, (height, width), objects))
    return pictures


def test_there_are_writers_of_all_formats():
    assert {"csv_rows", "open_images", "tfrecord", "coco_json", "voc_xml", "yolo"} <= set(writers())


@pytest.mark.parametrize("name", writers())
def test_a_format_is_detected_and_read_back_unchanged(pictures, tmp_path, name):
    result = try_format(name, pictures, tmp_path, trains=False)
    assert result.is_right, result
    assert result.objects == sum(len(picture.objects) for picture in pictures)


def test_the_comparison_detects_differences(pictures, tmp_path):
    first, *others = pictures
    name, box = first.objects[0].name, np.array(first.objects[0].box)
    for changed in (
        (Object(name, box + 2), *first.objects[1:]),
        (Object("other", box), *first.objects[1:]),
        first.objects[1:],
    ):
        written = [dataclasses.replace(first, objects=changed), *others]
        folder = tmp_path / str(len(list(tmp_path.iterdir())))
        writers()["csv_rows"](written, folder)
        assert largest_difference(pictures, open_dataset(str(folder))) > 0.5


def test_the_images_are_from_two_sets():
    pictures = take_pictures(Path(shared("data")).parent, 6)
    assert [picture.name[:5] for picture in pictures] == ["Blood"] * 3 + ["00000"] * 3
    assert all(picture.objects for picture in pictures[:3])


@pytest.mark.slow
def test_two_steps_of_training(pictures, tmp_path):
    # Other formats are trained on in `test_real_exports.py`.
    result = try_format("tfrecord", pictures, tmp_path, trains=True)
    assert result.is_right and 0 < result.loss < 1e3
