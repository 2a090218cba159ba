"""Data written in any format is read back unchanged by the name of its folder."""

import importlib
import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ssd_jax.data.records import Object
from ssd_jax.data.sources import open_dataset
from tools.formats.noise import picture
from tools.formats.picture import Picture
from tools.formats.writers import writers

LETTERS = st.characters(categories=["Lu", "Ll", "Lo", "Nd"], include_characters=" _-.,;:'()&#+")
# Names of files that begin with a dot are hidden, and not looked at.
NAMES = st.text(LETTERS, min_size=1, max_size=8).map(lambda name: name.strip().lstrip(". "))


@st.composite
def boxes(draw, size):
    """A box inside an image, of at least two pixels, in quarters of a pixel."""
    sides = []
    for length in reversed(size):
        start = draw(st.integers(0, 4 * (length - 2)))
        sides.append((start / 4, draw(st.integers(start + 8, 4 * length)) / 4))
    (x_min, x_max), (y_min, y_max) = sides
    return x_min, y_min, x_max, y_max


@st.composite
def sets_of_pictures(draw):
    """One to four images with names of any script, at least one of them with an object."""
    key = lambda name: "".join(filter(str.isalnum, name.casefold()))  # noqa: E731
    stems = draw(st.lists(NAMES.filter(key), min_size=1, max_size=4, unique_by=key))
    classes = draw(st.lists(NAMES.filter(key), min_size=1, max_size=3, unique_by=key))
    pictures = []
    for number, stem in enumerate(stems):
        size = draw(st.tuples(st.integers(8, 60), st.integers(8, 60)))
        drawn = draw(st.lists(st.tuples(st.sampled_from(classes), boxes(size)), max_size=3))
        if number == 0 and not drawn:
            drawn = [(classes[0], (0, 0, size[1], size[0]))]
        objects = [Object(name, box) for name, box in drawn]
        suffix = draw(st.sampled_from([".jpg", ".png", ".JPG"]))
        pictures.append(picture(stem + suffix, size, *objects, seed=number))
    return pictures


def read_back(folder: Path) -> dict[bytes, tuple[tuple[float, float] | None, list]]:
    """Size and objects, with boxes in pixels, by the bytes of the image."""
    dataset = open_dataset(str(folder), role="train")
    read = {}
    for index in range(len(dataset)):
        record = dataset[index]
        encoded = record.encoded or Path(record.path).read_bytes()
        height, width = record.size or (np.nan, np.nan)
        pixels = record.boxes * (width, height, width, height)
        names = [dataset.class_names[label - 1] for label in record.labels]
        read[encoded] = record.size, list(zip(names, pixels.tolist(), strict=True))
    assert len(read) == len(dataset)
    return read


def check_same(pictures: list[Picture], folder: Path, name: str) -> None:
    read = read_back(folder)
    # As its tool, the writer may leave out images without objects.
    needs_objects = getattr(
        importlib.import_module(f"tools.formats.{name}"), "NEEDS_OBJECTS", False
    )
    expected = [each for each in pictures if each.objects or not needs_objects]
    assert len(read) == len(expected)
    for each in expected:
        size, objects = read[each.encoded]
        assert size == each.size
        assert [found for found, _ in objects] == [each.name for each in each.objects]
        written = np.array([each.box for each in each.objects]).reshape(-1, 4)
        found = np.array([box for _, box in objects]).reshape(-1, 4)
        np.testing.assert_allclose(found, written, atol=0.01)


@pytest.mark.parametrize("name", writers())
def test_written_and_read_back(name):
    @settings(
        max_examples=25,
        deadline=None,
        derandomize=True,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(sets_of_pictures())
    def check(pictures):
        with tempfile.TemporaryDirectory() as folder:
            writers()[name](pictures, Path(folder, "set"))
            check_same(pictures, Path(folder), name)

    check()
