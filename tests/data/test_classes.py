"""Chosen, renamed, merged, absent and misspelt classes."""

import logging

import numpy as np
import pytest

from ssd_jax.data.classes import Classes, check_chosen, is_misspelt
from ssd_jax.data.sources import open_dataset
from ssd_jax.errors import UserError
from tests.helpers.pictures import VocFolder


@pytest.mark.parametrize(
    "name, known, expected",
    [
        ("Dog", "dog", True),
        ("dgo", "dog", True),
        ("traffic_light", "traffic light", True),
        ("aeroplan", "aeroplane", True),
        ("car", "cat", False),
        ("bus", "bush", False),
        ("cow", "crow", False),
        ("dog", "god", False),
        ("", "a", False),
        ("-", "+", False),
        ("猫", "犬", False),
    ],
)
def test_misspellings(name, known, expected):
    assert is_misspelt(name, known) is expected and is_misspelt(known, name) is expected


def test_labels_of_renamed_names():
    classes = Classes(("dog", "cat"), {"puppy": "dog", "car": "", "cat": "dog"})
    assert [classes.label(name) for name in ("dog", "puppy", "cat", "car", "bird")] == [
        1,
        1,
        1,
        0,
        0,
    ]


@pytest.fixture
def spec(tmp_path):
    """Two dogs and a puppy on one image, a car alone on another, one image empty."""
    voc = VocFolder(tmp_path / "voc")
    voc.add("a", [("dog", 6, 4, 30, 20), ("dog", 10, 4, 30, 20), ("puppy", 6, 8, 30, 20)])
    voc.add("b", [("car", 6, 4, 30, 20)])
    voc.add("c", [])
    return voc.split("all", "a", "b", "c")


@pytest.fixture
def told(caplog, monkeypatch):
    monkeypatch.setattr(logging.getLogger("ssd_jax"), "propagate", True)
    caplog.set_level(logging.WARNING)
    return lambda: [record.getMessage() for record in caplog.records]


def labels(dataset):
    return [record.labels.tolist() for record in dataset]


def test_a_subset_keeps_its_images_and_lists_the_others(spec, told):
    dataset = open_dataset(spec, ("car",))
    assert dataset.class_names == ("car",) and labels(dataset) == [[], [1], []]
    (message,) = told()
    assert "left out 3 objects of other classes: dog (2), puppy (1)" in message


def test_a_map_merges_and_leaves_out(spec, told):
    dataset = open_dataset(spec, class_map={"puppy": "dog", "car": ""})
    assert dataset.class_names == ("dog",) and labels(dataset) == [[1, 1, 1], [], []]
    assert "left out 1 object of other classes: car (1)" in told()[0]
    renamed = open_dataset(spec, ("auto", "dog"), class_map={"car": "auto", "puppy": "dog"})
    assert labels(renamed) == [[2, 2, 2], [1], []]


def test_a_class_map_of_unknown_names_is_rejected(spec):
    with pytest.raises(UserError, match=r"class_map names the class 'pupy'.*did you mean 'puppy'"):
        open_dataset(spec, class_map={"pupy": "dog"})


def test_a_misspelt_class_choice_is_rejected_and_an_absent_one_reported(spec, told):
    with pytest.raises(UserError, match=r"classes names the class 'dogg'.*did you mean 'dog'"):
        open_dataset(spec, ("car", "dogg"), role="train")
    assert open_dataset(spec, ("car", "zebra"), role="train").class_names == ("car", "zebra")
    assert any("has no object of the class zebra" in message for message in told())
    check_chosen(("dog",), {"dog", "dogs"}, "here")


def test_a_misspelt_class_is_rejected_unless_class_map_has_it(tmp_path):
    voc = VocFolder(tmp_path / "voc")
    voc.add("a", [("dog", 6, 4, 30, 20), ("Dog", 10, 4, 30, 20)])
    spec = voc.split("all", "a")
    with pytest.raises(UserError, match=r"'Dog', which is not among .*nearest is 'dog'.*class_map"):
        open_dataset(spec, ("dog",))
    assert labels(open_dataset(spec, ("dog",), class_map={"Dog": "dog"})) == [[1, 1]]
    assert labels(open_dataset(spec, ("dog",), class_map={"Dog": ""})) == [[1]]


def test_similar_class_names_are_reported(tmp_path, told):
    voc = VocFolder(tmp_path / "voc")
    voc.add("a", [("dog", 6, 4, 30, 20), ("Dog", 10, 4, 30, 20)])
    assert open_dataset(voc.split("all", "a")).class_names == ("Dog", "dog")
    assert "'Dog' and 'dog' have similar names" in told()[0] and "class_map=dog=Dog" in told()[0]


def test_a_class_named_twice_is_refused(spec):
    with pytest.raises(UserError, match="'dog' twice"):
        open_dataset(spec, ("dog", "car", "dog"))


def test_a_subset_of_a_set_of_tfds():
    everything = open_dataset("shapes:test[:20]")
    chosen = open_dataset("shapes:test[:20]", ("star", "circle"))
    assert len(chosen) == 20
    for record, all_of_it in zip(chosen, everything, strict=True):
        names = [everything.class_names[label - 1] for label in all_of_it.labels]
        kept = [i for i, name in enumerate(names) if name in ("star", "circle")]
        assert [chosen.class_names[label - 1] for label in record.labels] == [
            names[i] for i in kept
        ]
        np.testing.assert_array_equal(record.boxes, all_of_it.boxes[kept])
        assert record.dropped == 0
