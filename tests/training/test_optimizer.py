import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from ssd_jax.errors import UserError
from ssd_jax.training.optimizer import adam, sgd, step_schedule


def test_schedule_at_its_corners():
    schedule = step_schedule(1e-3, 120_000, (2 / 3, 5 / 6), warmup_steps=0)
    steps = [0, 79_999, 80_000, 99_999, 100_000, 119_999]
    np.testing.assert_allclose(
        [schedule(step) for step in steps], [1e-3, 1e-3, 1e-4, 1e-4, 1e-5, 1e-5], rtol=1e-5
    )


def test_warmup_rises_to_the_full_rate():
    schedule = step_schedule(1.0, 100, (), warmup_steps=4)
    np.testing.assert_allclose([schedule(step) for step in range(6)], [0.25, 0.5, 0.75, 1, 1, 1])


@pytest.mark.parametrize("drops", [(0.9, 0.5), (0.5, 1.5)])
def test_drops_that_are_no_ascending_fractions_are_refused(drops):
    with pytest.raises(UserError, match=r"config\.learning_rate_drops is"):
        step_schedule(1e-3, 100, drops, 0)


def test_two_steps_by_hand():
    # The rate drops between the steps; gradients are 1 throughout.
    optimizer = sgd(lambda step: jnp.where(step < 1, 0.1, 0.01), momentum=0.9, weight_decay=0.5)
    parameters = {"conv": {"kernel": jnp.array(2.0), "bias": jnp.array(2.0)}}
    parameters["norm"] = {"scale": jnp.array(2.0)}
    gradients = jax.tree.map(jnp.ones_like, parameters)
    state = optimizer.init(parameters)
    for _ in range(2):
        updates, state = optimizer.update(gradients, state, parameters)
        parameters = optax.apply_updates(parameters, updates)
    # Kernel: v = 0.1 (1 + 0.5·2) = 0.2, so 1.8; v = 0.9·0.2 + 0.01 (1 + 0.5·1.8) = 0.199.
    np.testing.assert_allclose(parameters["conv"]["kernel"], 1.8 - 0.199, rtol=1e-6)
    # Bias, twice the rate: v = 0.2, so 1.8; v = 0.18 + 0.02 = 0.2.
    np.testing.assert_allclose(parameters["conv"]["bias"], 1.6, rtol=1e-6)
    # Scale of batch norm: v = 0.1, so 1.9; v = 0.09 + 0.01 = 0.1.
    np.testing.assert_allclose(parameters["norm"]["scale"], 1.8, rtol=1e-6)


def test_adam_decays_kernels_alone():
    optimizer = adam(lambda step: 0.1, weight_decay=0.5)
    parameters = {"conv": {"kernel": jnp.array(2.0), "bias": jnp.array(2.0)}}
    gradients = {"conv": {"kernel": jnp.array(0.3), "bias": jnp.array(0.3)}}
    updates, _ = optimizer.update(gradients, optimizer.init(parameters), parameters)
    # The first step of Adam has the length of the rate, whatever the gradient.
    np.testing.assert_allclose(updates["conv"]["bias"], -0.1, rtol=1e-5)
    np.testing.assert_allclose(updates["conv"]["kernel"], -0.1 - 0.1 * 0.5 * 2, rtol=1e-5)
