"""Everything that training changes, in one immutable pytree."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

from ssd_jax.models.network import Variables
from ssd_jax.training.parameters import Mask, split


class TrainState(NamedTuple):
    """The state after some number of steps. Random numbers follow from seed and step."""

    step: jax.Array  # [] int32: steps done
    parameters: Variables
    averaged: Variables  # moving average of the parameters; empty = none
    batch_stats: Variables
    opt_state: optax.OptState  # of the parameters that are trained

    def for_evaluation(self) -> tuple[Variables, Variables]:
        """Parameters, averaged where there is an average, and batch statistics."""
        return self.averaged or self.parameters, self.batch_stats


def initial_state(
    parameters: Variables,
    batch_stats: Variables,
    optimizer: optax.GradientTransformation,
    *,
    frozen: Mask | None = None,
    averages: bool = False,
) -> TrainState:
    """The state before the first step.

    Args:
      parameters: the first ones.
      batch_stats: the first ones.
      optimizer: the optimiser of the parameters.
      frozen: the parameters that are not trained; None for none.
      averages: whether a moving average of the parameters is kept.
    """
    trainable, _ = split(parameters, frozen)
    return TrainState(
        step=jnp.zeros((), jnp.int32),
        parameters=parameters,
        # A copy: a train step donates both of them.
        averaged=jax.tree.map(jnp.copy, parameters) if averages else {},
        batch_stats=batch_stats,
        opt_state=optimizer.init(trainable),
    )
