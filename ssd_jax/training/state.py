"""The state of training in one immutable pytree: parameters, batch statistics, optimiser, step."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

from ssd_jax.models.network import Variables
from ssd_jax.training.parameters import Mask, split


class TrainState(NamedTuple):
    """The state after a number of steps. Random numbers depend on seed and step only."""

    step: jax.Array  # [] int32: steps done
    parameters: Variables
    averaged: Variables  # moving average of the parameters; empty = none
    batch_stats: Variables
    opt_state: optax.OptState  # of the parameters that are trained

    def for_evaluation(self) -> tuple[Variables, Variables]:
        """Parameters, averaged if the run averages them, and batch statistics."""
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
      parameters: the initial parameters.
      batch_stats: the initial batch statistics.
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
