"""Optimisers: stochastic gradient descent as the authors' Caffe does it, and Adam."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import optax

from ssd_jax.errors import UserError

BIAS_RATE = 2.0  # Caffe's lr_mult of biases; their decay_mult is 0


def step_schedule(
    learning_rate: float, steps: int, drops: Sequence[float], warmup_steps: int
) -> optax.Schedule:
    """A learning rate that is divided by 10 at given points of the run.

    Args:
      learning_rate: the rate at the start.
      steps: steps of the whole run.
      drops: fractions of the run at which the rate is divided by 10, ascending.
      warmup_steps: over so many steps the rate rises linearly from 0.

    Raises:
      UserError: the drops are not ascending fractions.
    """
    if list(drops) != sorted(drops) or not all(0 < drop < 1 for drop in drops):
        raise UserError(
            f"config.learning_rate_drops is {tuple(drops)}, but must be ascending fractions of "
            "the run between 0 and 1, like (2 / 3, 5 / 6)"
        )
    boundaries = jnp.array([round(drop * steps) for drop in drops])

    def schedule(step):
        passed = jnp.sum(step >= boundaries)
        warmup = jnp.minimum(1.0, (step + 1) / warmup_steps) if warmup_steps else 1.0
        return learning_rate * 0.1**passed * warmup

    return schedule


def _leaf_name(path: tuple) -> str:
    return str(path[-1].key)


def _decays(parameters: optax.Params) -> optax.Params:
    """Which parameters decay: all but biases and batch norm's scales."""
    return jax.tree_util.tree_map_with_path(
        lambda path, _: _leaf_name(path) not in ("bias", "scale"), parameters
    )


def sgd(
    schedule: optax.Schedule, momentum: float, weight_decay: float
) -> optax.GradientTransformation:
    """v ← momentum · v + rate · (gradient + weight_decay · parameter); parameter ← parameter - v.

    Biases learn at twice the rate and neither they nor batch norm's scales decay. As in Caffe the
    rate stands inside the momentum, so that a drop of the rate does not shrink what is under way.
    """

    def double_bias_rate(updates, parameters=None):
        del parameters
        return jax.tree_util.tree_map_with_path(
            lambda path, update: update * BIAS_RATE if _leaf_name(path) == "bias" else update,
            updates,
        )

    return optax.chain(
        optax.add_decayed_weights(weight_decay, mask=_decays),
        optax.stateless(double_bias_rate),
        optax.scale_by_learning_rate(schedule),
        optax.trace(decay=momentum),
    )


def adam(schedule: optax.Schedule, weight_decay: float) -> optax.GradientTransformation:
    """Adam with decoupled weight decay, but none on biases and batch norm's scales.

    Not the paper's, but from scratch it needs far fewer steps than SGD.
    """
    return optax.adamw(schedule, weight_decay=weight_decay, mask=_decays)
