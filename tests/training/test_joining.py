"""Small arrays of parameters are joined into vectors, and separated again."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from ssd_jax.config.schema import Config, OptimizerConfig
from ssd_jax.training.joining import MAX_JOINED, Joining, StateJoining
from ssd_jax.training.optimizer import make_optimizer, treatment
from ssd_jax.training.parameters import matching, split
from ssd_jax.training.state import initial_state

PARAMETERS = {
    "first": {"kernel": jnp.array([[1.0, 2.0], [3.0, 4.0]]), "bias": jnp.array([5.0, 6.0])},
    "large": {"kernel": jnp.ones((1, MAX_JOINED + 1))},
    "second": {"kernel": jnp.array([[7.0]]), "bias": jnp.array([8.0])},
}


def test_small_arrays_of_a_kind_are_one_vector():
    joining = Joining(PARAMETERS, treatment(OptimizerConfig(), PARAMETERS))
    joined = joining.join(PARAMETERS)
    assert list(joined) == ["first/bias", "first/kernel", "large/kernel"]
    np.testing.assert_array_equal(joined["first/kernel"], [1, 2, 3, 4, 7])
    np.testing.assert_array_equal(joined["first/bias"], [5, 6, 8])
    assert joined["large/kernel"] is PARAMETERS["large"]["kernel"]
    doubled = joining.separate({name: 2 * array for name, array in joined.items()})
    jax.tree.map(np.testing.assert_array_equal, doubled, jax.tree.map(lambda x: 2 * x, PARAMETERS))


def test_left_out_arrays_are_not_joined():
    kernels, _ = split(PARAMETERS, matching(PARAMETERS, "*/bias"))
    joining = Joining(kernels)
    joined = joining.join(kernels)
    assert list(joined) == ["first/kernel", "large/kernel"]
    jax.tree.map(np.testing.assert_array_equal, joining.separate(joined), kernels)


@pytest.mark.parametrize("name", ["sgd", "adam"])
@pytest.mark.parametrize("frozen", ["", "first/*"])
def test_joined_parameters_are_trained_like_separate_ones(name, frozen):
    settings = Config(optimizer=name, weight_decay=0.1, bias_rate=2.0)
    optimizer = make_optimizer(settings, lambda step: 0.1)
    mask = matching(PARAMETERS, frozen)
    state = initial_state(PARAMETERS, {}, optimizer, frozen=mask, averages=True)
    trainable, _ = split(PARAMETERS, mask)
    gradients = jax.tree.map(jnp.cos, trainable)
    updates, expected = optimizer.update(gradients, state.opt_state, trainable)
    expected_parameters = optax.apply_updates(trainable, updates)

    joining = StateJoining(state, mask, settings)
    joined = joining.join(state)
    before = joined.parameters["trained"]
    updates, opt_state = optimizer.update(
        joining.parameters.join(gradients), joined.opt_state, before
    )
    trained = {"trained": optax.apply_updates(before, updates)}
    after = joining.separate(
        joined._replace(parameters=joined.parameters | trained, opt_state=opt_state)
    )
    assert jax.tree.structure(after) == jax.tree.structure(state)
    jax.tree.map(np.testing.assert_array_equal, after.opt_state, expected)
    jax.tree.map(np.testing.assert_array_equal, after.averaged, PARAMETERS)
    trained, kept = split(after.parameters, mask)
    jax.tree.map(np.testing.assert_array_equal, trained, expected_parameters)
    jax.tree.map(np.testing.assert_array_equal, kept, split(PARAMETERS, mask)[1])
