"""Random arrays for a network, without compilation."""

import jax
import numpy as np


def random_variables(network, seed=0):
    """Parameters and batch statistics as `Network.init` shapes them, drawn from [0, 1)."""
    random = np.random.default_rng(seed)
    return jax.tree.map(
        lambda array: random.random(array.shape, np.float32), network.variable_shapes()
    )
