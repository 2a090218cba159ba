"""Gradient accumulation: the update of several parts equals that of the whole batch."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ssd_jax.config.schema import as_config
from ssd_jax.detection.losses import MultiboxLoss
from ssd_jax.models.network import build_network
from ssd_jax.training.steps import accumulate_gradients
from tests import tiny_two_maps
from tests.training.test_steps import (
    compiled_network,
    initial_variables,
    make_batch,
    network_input,
    steps,
)


def small_network(batch_norm):
    config = as_config(tiny_two_maps.get_config()).replace({"model.batch_norm": batch_norm})
    return build_network(config.model, num_classes=5)


@pytest.mark.slow
def test_accumulation_makes_the_update_of_the_large_batch():
    network = small_network(batch_norm=False)
    # With mirroring, which follows an image's place in the whole batch. Differences in the last
    # digits grow with every step, the faster the higher the rate.
    options = {"augment.flip": True, "learning_rate": 1e-4}
    (*_, whole), whole_metrics = steps(network, make_batch(), 3, **options)
    (*_, parts), parts_metrics = steps(network, make_batch(), 3, accumulate=2, **options)
    assert parts.step == whole.step == 3
    # Parts differ in positives: dividing each by its own would give another update.
    for name in ("positives", "negatives"):
        assert whole_metrics[name] == parts_metrics[name] > 0
    for name, value in whole_metrics.items():
        np.testing.assert_allclose(parts_metrics[name], value, rtol=1e-4)
    start, whole, parts = (
        np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(parameters)])
        for parameters in (initial_variables(network)[0], whole.parameters, parts.parameters)
    )
    assert np.abs(parts - whole).max() < 1e-4
    assert np.linalg.norm(parts - whole) < 1e-3 * np.linalg.norm(whole - start)


def test_gradients_and_sums_of_four_parts_by_hand():
    values = np.arange(8.0)

    def loss(parameters, statistics, part, keys):
        sums = MultiboxLoss(*[part.sum()] * len(MultiboxLoss._fields))
        return (parameters["w"] ** 2 * part).sum(), (sums, 10 * statistics + part[0])

    parameters = {"w": jnp.float32(3)}
    share = jnp.array(values), jnp.zeros(8)
    gradients, sums, statistics = accumulate_gradients(loss, parameters, jnp.zeros(()), share, 4)
    assert gradients["w"] == 2 * 3 * values.sum()
    assert all(total == values.sum() for total in sums)
    assert statistics == 123  # parts begin with images 0, 1, 2, 3


@pytest.mark.slow
def test_batch_statistics_follow_all_parts():
    network, batch = small_network(batch_norm=True), make_batch()
    (state,), _ = steps(network, batch, 1, accumulate=2)
    parameters, statistics = initial_variables(network)
    for part in (0, 1):
        images = network_input(batch["image"][part::2])
        _, statistics = compiled_network(network)(parameters, statistics, images, True)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-4),
        state.batch_stats,
        statistics,
    )
