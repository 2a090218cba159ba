import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from configs import ssd300_coco_mmdetection, ssd300_voc
from ssd_jax.config.schema import Config, OptimizerConfig, as_config
from ssd_jax.errors import UserError
from ssd_jax.training.optimizer import (
    cosine_schedule,
    make_optimizer,
    make_schedule,
    step_schedule,
)


def test_learning_rates_at_the_corners_of_the_schedule():
    schedule = step_schedule(1e-3, 120_000, (2 / 3, 5 / 6), warmup_steps=0)
    steps = [0, 79_999, 80_000, 99_999, 100_000, 119_999]
    np.testing.assert_allclose(
        [schedule(step) for step in steps], [1e-3, 1e-3, 1e-4, 1e-4, 1e-5, 1e-5], rtol=1e-5
    )


def test_warmup_rises_to_the_full_rate():
    schedule = step_schedule(1.0, 100, (), warmup_steps=4)
    np.testing.assert_allclose([schedule(step) for step in range(6)], [0.25, 0.5, 0.75, 1, 1, 1])


@pytest.mark.parametrize(
    "drops, complaint",
    [((0.9, 0.5), "must be ascending"), ((0.5, 1.5), "must be less than 1")],
)
def test_drops_that_are_no_ascending_fractions_are_refused(drops, complaint):
    with pytest.raises(UserError, match=rf"learning_rate_drops.* is .*{complaint}"):
        Config().replace({"learning_rate_drops": drops})


def test_two_steps_by_hand():
    # The rate drops between the steps; gradients are 1 throughout.
    optimizer = make_optimizer(
        OptimizerConfig(momentum=0.9, weight_decay=0.5, bias_rate=2.0),
        lambda step: jnp.where(step < 1, 0.1, 0.01),
    )
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
    optimizer = make_optimizer(
        OptimizerConfig(optimizer="adam", weight_decay=0.5), lambda step: 0.1
    )
    parameters = {"conv": {"kernel": jnp.array(2.0), "bias": jnp.array(2.0)}}
    gradients = {"conv": {"kernel": jnp.array(0.3), "bias": jnp.array(0.3)}}
    updates, _ = optimizer.update(gradients, optimizer.init(parameters), parameters)
    # The first step of Adam has the length of the rate, whatever the gradient.
    np.testing.assert_allclose(updates["conv"]["bias"], -0.1, rtol=1e-5)
    np.testing.assert_allclose(updates["conv"]["kernel"], -0.1 - 0.1 * 0.5 * 2, rtol=1e-5)


def test_the_cosine_falls_to_zero():
    schedule = cosine_schedule(2.0, 100, warmup_steps=2)
    np.testing.assert_allclose(
        [schedule(step) for step in (0, 25, 50, 75, 100, 120)],
        [1, 1 + np.sqrt(0.5), 1, 1 - np.sqrt(0.5), 0, 0],
        atol=1e-6,
    )


def first_update(optimizer, gradients, parameters):
    return optimizer.update(gradients, optimizer.init(parameters), parameters)[0]


@pytest.mark.parametrize("name", ["sgd", "adam"])
def test_long_gradients_are_shortened(name):
    # Length 5 becomes 1, length 0.5 stays.
    parameters = {"a": jnp.array([3.0]), "b": jnp.array([4.0])}
    clipping, plain = (
        make_optimizer(
            OptimizerConfig(optimizer=name, weight_decay=0.0, clip_norm=norm), lambda step: 1.0
        )
        for norm in (1.0, 0.0)
    )
    for gradients, shortened in (
        ({"a": jnp.array([3.0]), "b": jnp.array([4.0])}, {"a": 0.6, "b": 0.8}),
        ({"a": jnp.array([0.3]), "b": jnp.array([0.4])}, {"a": 0.3, "b": 0.4}),
    ):
        wanted = first_update(plain, jax.tree.map(jnp.atleast_1d, shortened), parameters)
        got = first_update(clipping, gradients, parameters)
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5), got, wanted)
    assert name == "adam" or got["a"] == -jnp.float32(0.3)


def test_a_config_sets_weight_decay_and_the_rate_of_biases():
    parameters = {"conv": {"kernel": jnp.array(1.0), "bias": jnp.array(1.0)}}
    gradients = jax.tree.map(jnp.zeros_like, parameters)
    paper, mmdetection = (
        make_optimizer(as_config(config.get_config()), lambda step: 1.0)
        for config in (ssd300_voc, ssd300_coco_mmdetection)
    )
    updates = first_update(paper, gradients, parameters)["conv"]
    assert updates["kernel"] == -np.float32(5e-4) and updates["bias"] == 0
    updates = first_update(mmdetection, gradients, parameters)["conv"]
    assert updates["kernel"] == updates["bias"] == -np.float32(5e-4)
    gradients = jax.tree.map(jnp.ones_like, parameters)
    assert first_update(paper, gradients, parameters)["conv"]["bias"] == -2


def test_the_rate_grows_with_the_batch():
    config = Config(warmup_steps=0, batch_size=128)
    np.testing.assert_allclose(make_schedule(config)(0), 1e-3, rtol=1e-6)
    config = config.replace({"base_batch_size": 32})
    np.testing.assert_allclose(make_schedule(config)(0), 4e-3, rtol=1e-6)
    config = config.replace({"schedule": "cosine"})
    np.testing.assert_allclose(make_schedule(config)(60_000), 2e-3, rtol=1e-5)


@pytest.mark.parametrize("field, name", [("schedule", "step"), ("optimizer", "sgd")])
def test_unknown_names_are_refused(field, name):
    with pytest.raises(UserError, match=f"config.{field} is 'linear', but must be '{name}'"):
        Config().replace({field: "linear"})
