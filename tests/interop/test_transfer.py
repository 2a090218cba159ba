import jax
import numpy as np
import pytest

from ssd_jax.config.schema import as_config
from ssd_jax.interop.transfer import Classes, flatten, format_transfer, summarise_transfer, transfer
from ssd_jax.models.network import build_network
from tests import tiny
from tests.helpers.random_variables import random_variables


def network(num_classes, width=0.02):
    config = tiny.get_config()
    config.model.width = width
    return build_network(as_config(config).model, num_classes)


def statuses(result):
    return {name: status for name, _, status in result.statuses}


NEW, GIVEN = network(num_classes=3), network(num_classes=4)
BOXES = NEW.tiling.boxes_per_cell


@pytest.fixture(scope="module")
def transferred():
    """A network for dog, car, cat from one for cat, bird, dog, cow."""
    classes = Classes(("dog", "car", "cat"), ("cat", "bird", "dog", "cow"))
    new, given = random_variables(NEW), random_variables(GIVEN, seed=1)
    return new, given, transfer(new, flatten(given), classes, BOXES)


def test_arrays_of_the_same_path_and_shape_are_copied(transferred):
    _, given, result = transferred
    parameters, batch_stats = result.variables
    for room in ("backbone", "extras"):
        jax.tree.map(np.testing.assert_array_equal, parameters[room], given[0][room])
    offsets = parameters["heads"]["offsets"]
    jax.tree.map(np.testing.assert_array_equal, offsets, given[0]["heads"]["offsets"])
    jax.tree.map(np.testing.assert_array_equal, batch_stats, given[1])
    assert jax.tree.structure(result.variables) == jax.tree.structure(transferred[0])


def test_classifiers_carry_classes_by_name(transferred):
    new, given, result = transferred
    for i, boxes in enumerate(BOXES):
        (old, other, filled) = (
            np.asarray(parameters["heads"]["logits"][i]["kernel"])
            for parameters in (new[0], given[0], result.variables[0])
        )
        for box in range(boxes):
            background, dog, car, cat = (filled[..., 4 * box + row] for row in range(4))
            np.testing.assert_array_equal(background, other[..., 5 * box])
            np.testing.assert_array_equal(dog, other[..., 5 * box + 3])
            np.testing.assert_array_equal(cat, other[..., 5 * box + 1])
            np.testing.assert_array_equal(car, old[..., 4 * box + 2])


def test_the_same_number_of_classes_is_no_reason_to_keep_their_order():
    given = random_variables(GIVEN, seed=1)
    classes = Classes(("a", "b", "c", "d"), ("d", "c", "b", "a"))
    given[0]["heads"]["logits"][0]["bias"] = np.arange(20.0)
    result = transfer(random_variables(GIVEN), flatten(given), classes, BOXES)
    np.testing.assert_array_equal(
        result.variables[0]["heads"]["logits"][0]["bias"][:5], [0, 4, 3, 2, 1]
    )


def test_names_of_coco_equal_those_of_voc():
    names = ("aeroplane", "diningtable", "motorbike", "pottedplant", "sofa", "tvmonitor")
    theirs = ("airplane", "dining table", "motorcycle", "potted plant", "couch", "tv")
    big = network(len(names))
    result = transfer(
        random_variables(big), flatten(random_variables(big, seed=1)), Classes(names, theirs), BOXES
    )
    assert statuses(result)["heads/logits/0/bias"] == (
        "background and 6 of 6 classes copied by name"
    )


@pytest.mark.parametrize(
    "wanted, given, rows",
    [
        # Names that are equal, in spite of others that are alike.
        ("- -- x x-", "x- x -- -", [4, 3, 2, 1]),
        ("- -- x x-", "- -- x x-", [1, 2, 3, 4]),
        # "x" is taken by its equal, so that nothing is left for "x-".
        ("x x- a", "x b", [1, 0, 0]),
        # Two that may be meant, on one side or on the other.
        ("x_ a", "x x-", [0, 0]),
        ("x- x_", "x b", [0, 0]),
        ("tvmonitor tv", "television tvmonitor", [2, 0]),
        # Signs alone are no name that others have.
        ("- .", "-- ...", [0, 0]),
        # Just one on each side: other capitals, signs, and COCO's names.
        ("Dining-Table TV LÖWE", "diningtable tvmonitor löwe", [1, 2, 3]),
        ("猫 犬", "犬 猫", [2, 1]),
    ],
)
def test_equal_names_come_first_and_no_two_classes_are_merged(wanted, given, rows):
    wanted, given = wanted.split(), given.split()
    new, old = network(len(wanted)), network(len(given))
    boxes, (weights, theirs) = BOXES[0], (random_variables(new), random_variables(old))
    weights[0]["heads"]["logits"][0]["bias"] = np.zeros(boxes * (1 + len(wanted)))
    theirs[0]["heads"]["logits"][0]["bias"] = np.tile(100 + np.arange(1 + len(given)), boxes)
    result = transfer(weights, flatten(theirs), Classes(wanted, given), BOXES)
    bias = np.asarray(result.variables[0]["heads"]["logits"][0]["bias"]).reshape(boxes, -1)
    assert bias[1].tolist() == [100, *(100 + row if row else 0 for row in rows)]


def test_the_table_has_the_status_of_every_array(transferred):
    new, _, result = transferred
    told = statuses(result)
    assert told.keys() == flatten(new).keys()
    assert told["heads/logits/0/kernel"] == "background and 2 of 3 classes copied by name"
    assert told["backbone/fc7/conv/kernel"] == told["backbone/fc7/norm/mean"] == "copied"
    assert result.num_filled == len(told) and not result.unused
    lines = [line.split(maxsplit=2) for line in format_transfer(result).splitlines()]
    assert len(lines) == len(told)
    assert ["backbone/fc7/conv/kernel", "1×1×24×24", "copied"] in lines
    taken = sum(status == "copied" for name, status in told.items() if name.startswith("backbone"))
    in_short = [line.split(maxsplit=3) for line in summarise_transfer(result).splitlines()]
    assert ["backbone", str(taken), "arrays", "copied"] in in_short
    assert sum(int(count) for _, count, _, _ in in_short) == len(told)


def test_parameters_that_do_not_fit_stay_new_and_are_reported():
    new, wide = random_variables(NEW), random_variables(network(num_classes=3, width=0.05))
    given = flatten(wide)
    del given["backbone/fc6/norm/mean"]
    result = transfer(new, given | {"surplus": np.zeros(1)}, Classes("abc", "abc"), BOXES)
    told = statuses(result)
    shape = "×".join(map(str, wide[0]["backbone"]["fc6"]["conv"]["kernel"].shape))
    assert told["backbone/fc6/conv/kernel"] == f"new: in the weights it is {shape}"
    assert told["backbone/fc6/norm/mean"] == "new: not in the weights"
    assert told["heads/logits/0/kernel"].startswith("new: in the weights it is")
    np.testing.assert_array_equal(
        result.variables[0]["backbone"]["fc6"]["conv"]["kernel"],
        new[0]["backbone"]["fc6"]["conv"]["kernel"],
    )
    assert result.unused == ["surplus"]
    assert format_transfer(result).splitlines()[-1].split() == ["surplus", "not", "used"]
    last = summarise_transfer(result).splitlines()[-1]
    assert last.split() == ["surplus", "1", "array", "not", "used"]
