import numpy as np
import pytest

from ssd_jax.config.schema import LossConfig
from ssd_jax.data.content import count_content
from ssd_jax.data.sources import open_dataset
from ssd_jax.errors import UserError
from ssd_jax.runs.class_weights import balanced, with_class_weights


def test_balanced_weights_by_hand():
    # Roots 10, 5 and 1; together 126 objects.
    np.testing.assert_allclose(balanced(np.array([100, 25, 0, 1])), [0.7875, 1.575, 1, 7.875])
    np.testing.assert_allclose(balanced(np.array([7, 7])), [1, 1])


def test_balanced_weights_are_one_on_average():
    num_objects = np.random.default_rng(0).integers(1, 10_000, 50)
    weights = balanced(num_objects)
    np.testing.assert_allclose((num_objects * weights).sum(), num_objects.sum())
    np.testing.assert_allclose(weights**2 * num_objects, weights[0] ** 2 * num_objects[0])


def test_weights_become_numbers_in_the_order_of_the_classes():
    train = open_dataset("shapes:test[:20]")

    def numbers(weights):
        return with_class_weights(LossConfig(class_weights=weights), train).weights_in_order

    assert numbers("") == ()
    assert numbers("star=3,circle=0.1") == (0.1, 1, 1, 3, 1)
    assert numbers("5,4,3,2,1") == (5, 4, 3, 2, 1)
    assert numbers("balanced") == tuple(balanced(count_content(train).num_objects))
    for weights, told in (
        ("Star=3", r"names 'Star', but the classes of the data are circle, .*: did you mean star"),
        ("3,4", r"has 2 numbers, but the classes of the data are circle, .*: give one for each"),
    ):
        with pytest.raises(UserError, match=rf"config\.loss\.class_weights {told}"):
            numbers(weights)
