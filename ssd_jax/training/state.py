"""Everything that training changes, in one immutable pytree."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

from ssd_jax.models.network import Variables


class TrainState(NamedTuple):
    """The state after some number of steps. Random numbers follow from seed and step."""

    step: jax.Array  # [] int32: steps done
    parameters: Variables
    batch_stats: Variables
    opt_state: optax.OptState


def initial_state(
    parameters: Variables, batch_stats: Variables, optimizer: optax.GradientTransformation
) -> TrainState:
    """The state before the first step."""
    return TrainState(
        step=jnp.zeros((), jnp.int32),
        parameters=parameters,
        batch_stats=batch_stats,
        opt_state=optimizer.init(parameters),
    )
