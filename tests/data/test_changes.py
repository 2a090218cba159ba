import numpy as np
import pytest

from ssd_jax.data import columns as columns_module
from ssd_jax.data.annotations import Annotations
from ssd_jax.data.changes import (
    annotation_digests,
    describe_changes,
    read_digests,
    renamed_images,
    write_digests,
)
from ssd_jax.data.datasets import Dataset
from ssd_jax.data.folder_records import FolderRecords
from ssd_jax.data.problems import Problems
from ssd_jax.data.records import Object, annotation
from ssd_jax.data.sources import open_dataset
from ssd_jax.errors import UserError
from tests.helpers.pictures import VocFolder


@pytest.fixture
def digests(tmp_path):
    """The digests of some images with boxes at these positions."""

    def make(places):
        folder = VocFolder(tmp_path / str(len(list(tmp_path.iterdir()))))
        for name, x in places.items():
            folder.add(name, [("dog", x, 4, 30, 20)])
        return annotation_digests(open_dataset(folder.split("all", *places)))

    return make


def test_images_that_came_went_or_changed_are_counted(digests):
    before = digests({"a": 1, "b": 2, "c": 3})
    assert describe_changes(before, digests({"a": 1, "b": 2, "c": 3})) == ""
    assert describe_changes(before, digests({"a": 1, "b": 5, "d": 3, "e": 3})) == (
        "2 images added (d, e); 1 image removed (c); 1 image with other annotations (b)"
    )


def test_images_of_two_sources_with_one_id_are_two(tmp_path):
    specs = []
    for number in (1, 2):
        folder = VocFolder(tmp_path / str(number))
        folder.add("a", [("dog", number, 4, 30, 20)])
        specs.append(folder.split("all", "a"))
    first, second, both = map(
        annotation_digests, map(open_dataset, (specs[0], specs[1], ",".join(specs)))
    )
    assert both == {"a": first["a"], "a (source 2)": second["a"]} and first != second


@pytest.mark.parametrize("counts", [(0, 2, 0, 3, 1, 0, 0), (0, 0), (4, 0), (1, 1, 5)])
def test_digests_do_not_depend_on_the_pieces(monkeypatch, counts):
    drawn = np.random.default_rng(0)
    made = [
        annotation(str(i), "", "", [Object("x", box) for box in drawn.random((count, 4))])
        for i, count in enumerate(counts)
    ]
    columns = Annotations(made, "set").columns
    part = FolderRecords(columns, columns.boxes, columns.classes, columns.sizes)
    dataset = Dataset([part], ["x"], [1], Problems())
    expected = annotation_digests(dataset)
    assert list(expected) == list(map(str, range(len(counts))))
    different = {expected[str(i)] for i, count in enumerate(counts) if count}
    assert len(different) == sum(map(bool, counts))
    for at_once in (1, 2, 3):
        monkeypatch.setattr(columns_module, "AT_ONCE", at_once)
        assert annotation_digests(dataset) == expected


def test_a_renamed_image_of_the_evaluation_is_recognised(digests):
    before = digests({"a": 1, "b": 2, "c": 3})
    assert renamed_images(before, {"c"}, digests({"a": 1, "b": 2, "z": 3})) == ["z"]
    assert renamed_images(before, {"c"}, digests({"a": 1, "b": 2, "z": 4})) == []


def test_digests_are_read_back_unchanged(tmp_path):
    assert read_digests(tmp_path) == {}
    write_digests(tmp_path, {"a": "1"}, {"b": "2"})
    assert read_digests(tmp_path) == {"train": {"a": "1"}, "evaluation": {"b": "2"}}
    for content in ("[]", '{"train": 3}', '{"train": {"a": 1}}'):
        (tmp_path / "data.json").write_text(content)
        with pytest.raises(UserError, match=r"data\.json is damaged"):
            read_digests(tmp_path)
