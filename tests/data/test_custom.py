"""A user's own augmentation, `config.augment.custom`."""

import importlib
import sys

import numpy as np
import pytest

from ssd_jax.config.schema import DataConfig, as_config
from ssd_jax.data.custom import checked, find_function
from ssd_jax.data.problems import make_problems
from ssd_jax.data.sources import open_dataset
from ssd_jax.data.training_batches import training_batches
from ssd_jax.errors import UserError
from tests.data.test_training_batches import BATCH, PLAIN, assert_same, take
from tests.helpers.pictures import write_ten

FUNCTIONS = """
import numpy as np

number = 3

def nothing(image, boxes, labels, generator):
    return image, boxes, labels

def grey_or_gone(image, boxes, labels, generator):
    if generator.random() < 0.5:
        return np.full((9, 7, 3), generator.integers(256), np.uint8), [], []
    image[:] = 128  # in place
    return image, boxes[:1], labels[:1]

def exits(image, boxes, labels, generator):
    raise SystemExit(3)

def fails_once(image, boxes, labels, generator):
    if image.shape[0] == 43:
        raise ValueError("no\\nluck")
    return image, boxes, labels
"""


@pytest.fixture
def module(tmp_path, monkeypatch):
    """The current folder, with a module of functions."""
    (tmp_path / "own_images.py").write_text(FUNCTIONS)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    importlib.invalidate_caches()
    yield "own_images"
    sys.modules.pop("own_images", None)


def named(function):
    return PLAIN.replace({"augment.custom": f"own_images:{function}", "model.image_size": 8})


def test_images_and_boxes_are_changed_by_the_function(module, tmp_path):
    source = open_dataset(write_ten(tmp_path / "voc"))
    config = PLAIN.replace({"model.image_size": 8})
    unchanged = take(training_batches(config, source, BATCH), 3)
    assert_same(unchanged, take(training_batches(named("nothing"), source, BATCH), 3))

    batches = take(training_batches(named("grey_or_gone"), source, BATCH), 5)
    images, labels, sizes = (
        np.concatenate([batch[key] for batch in batches]) for key in ("image", "labels", "size")
    )
    is_gone = (sizes == [9, 7]).all(axis=1)
    assert 0 < is_gone.sum() < len(images)
    assert (images[~is_gone] == 128).all() and (images == images[:, :1, :1, :1]).all()
    assert not labels[is_gone].any()
    assert set((labels[~is_gone] > 0).sum(axis=1)) == {0, 1}  # one image is without objects
    # A run that goes on draws the same.
    again = training_batches(named("grey_or_gone"), source, BATCH, first_step=3)
    assert_same(batches[3:], take(again, 2))


@pytest.mark.parametrize("on_error", ["stop", "skip"])
def test_a_failure_names_the_image_and_the_line(module, tmp_path, on_error):
    data = DataConfig(on_error=on_error, max_error_fraction=1.0)
    source = open_dataset(write_ten(tmp_path / "voc"), problems=make_problems(data))
    with pytest.raises(UserError) as caught:
        take(training_batches(named("fails_once"), source, 10), 2)
    message = str(caught.value)
    assert message.startswith("config.augment.custom=own_images:fails_once, given ")
    assert "picture3.jpg, failed with ValueError: no (" in message
    assert message.endswith("own_images.py, line 20)")


def test_a_function_that_exits_is_named(module, tmp_path):
    source = open_dataset(write_ten(tmp_path / "voc"))
    with pytest.raises(
        UserError, match=r"own_images:exits, given .* SystemExit: 3 \(.* line 16\)$"
    ):
        take(training_batches(named("exits"), source, BATCH), 1)


GOOD = np.zeros((4, 5, 3), np.uint8), [[0.0, 0.0, 0.5, 1.00005]], [2]


@pytest.mark.parametrize(
    "returned, complaint",
    [
        (None, "returned None, but must return three: image, boxes, labels"),
        (GOOD[:2], "returned 2 values, but must return three"),
        ((*GOOD[:2], [True]), r"returned labels that are no array of numbers: \[True\]"),
        ((*GOOD[:2], ["1"]), r"returned labels that are no array of numbers: \['1'\]"),
        ((GOOD[0] / 2, *GOOD[1:]), r"shape \(4, 5, 3\) and type float64, but it must be"),
        ((GOOD[0][..., 0], *GOOD[1:]), r"shape \(4, 5\) and type uint8"),
        ((GOOD[0][:0], *GOOD[1:]), r"shape \(0, 5, 3\)"),
        ((np.zeros((1, 1, 3), np.uint8).repeat(2e8, 1), [], []), "at most 110000000"),
        ((GOOD[0], [0.0, 0.0, 0.5, 1.0], [2]), r"boxes of the shape \(4,\)"),
        ((GOOD[0], GOOD[1], [2, 1]), r"labels of the shape \(2,\)"),
        ((GOOD[0], [["a"] * 4], [1]), "boxes that are no array of numbers"),
        ((GOOD[0], [[0.0, 0.0, 30.0, 40.0]], [1]), r"the box \(0, 0, 30, 40\).*clip it"),
        ((GOOD[0], [[0.5, 0.0, 0.5, 1.0]], [1]), r"the box \(0.5, 0, 0.5, 1\)"),
        ((GOOD[0], [[0.5, 0.0, np.nan, 1.0]], [1]), "the box"),
        ((GOOD[0], GOOD[1], [0]), "the label 0, but labels are whole numbers from 1 to 2"),
        ((GOOD[0], GOOD[1], [3]), "the label 3"),
        ((GOOD[0], GOOD[1], [1.5]), "the label 1.5"),
    ],
)
def test_invalid_results_of_the_function_are_rejected(returned, complaint):
    with pytest.raises(UserError, match=complaint):
        checked(returned, num_classes=2)


def test_rounding_is_no_mistake():
    image, boxes, labels = checked(GOOD, num_classes=2)
    assert image is GOOD[0] and labels.dtype == np.int32
    np.testing.assert_array_equal(boxes, np.float32([[0, 0, 0.5, 1]]))


@pytest.mark.parametrize(
    "name, complaint",
    [
        ("own_image:nothing", r"no module own_image in .* or among the installed packages"),
        ("own_images.parts:x", "own_images.parts"),
        ("own_images:nothin", "has no nothin: did you mean nothing"),
        ("own_images:number", "number of .*own_images.py is 3, which is not a function"),
        ("broken:x", r"cannot be imported: ModuleNotFoundError: No module named 'absent' \("),
        ("wrong:x", r"cannot be imported: SyntaxError"),
        ("exits:x", r"cannot be imported: SystemExit: 2 \(.*exits.py, line 2\)"),
        ("calls:x", r"cannot be imported: JSONDecodeError: .* \(.*calls.py, line 3\)"),
        ("sys:x", r"but the module sys has no x"),
    ],
)
def test_a_missing_function_is_reported(module, tmp_path, name, complaint):
    (tmp_path / "broken.py").write_text("\nimport absent\n")
    (tmp_path / "wrong.py").write_text("def x(:\n")
    (tmp_path / "exits.py").write_text("import sys\nsys.exit(2)\n")
    (tmp_path / "calls.py").write_text("import json\n\njson.loads('x')\n")
    with pytest.raises(UserError, match=complaint) as caught:
        find_function(name)
    assert str(caught.value).startswith(f"config.augment.custom is {name}, but")


@pytest.mark.parametrize("name", ["blur", "own_images.py", "a:b:c", ":x", "a:", "a/b.py:c"])
def test_the_form_of_a_name_is_checked(name):
    with pytest.raises(UserError, match="must be MODULE:FUNCTION, like my_images:blur"):
        as_config({"augment": {"custom": name}})
