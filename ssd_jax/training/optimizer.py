"""Optimisers: stochastic gradient descent as the authors' Caffe does it, and Adam."""

import math
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import optax

from ssd_jax.errors import UserError
from ssd_jax.training.parameters import matching


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
        return learning_rate * 0.1**passed * _warmup(step, warmup_steps)

    return schedule


def cosine_schedule(learning_rate: float, steps: int, warmup_steps: int) -> optax.Schedule:
    """A learning rate that falls to 0 along half a wave of the cosine.

    Args:
      learning_rate: the rate at the start.
      steps: steps of the whole run.
      warmup_steps: over so many steps the rate rises linearly from 0.
    """

    def schedule(step):
        fall = 0.5 * (1 + jnp.cos(math.pi * jnp.minimum(step / steps, 1.0)))
        return learning_rate * fall * _warmup(step, warmup_steps)

    return schedule


def _warmup(step: jax.Array, warmup_steps: int) -> jax.Array | float:
    return jnp.minimum(1.0, (step + 1) / warmup_steps) if warmup_steps else 1.0


def sgd(
    schedule: optax.Schedule,
    momentum: float,
    weight_decay: float,
    undecayed: str = "",
    bias_rate: float = 1.0,
    clip_norm: float = 0.0,
) -> optax.GradientTransformation:
    """v ← momentum · v + rate · (gradient + weight_decay · parameter); parameter ← parameter - v.

    As in Caffe the rate stands inside the momentum, so that a drop of the rate does not shrink
    what is under way.

    Args:
      schedule: the rate by step.
      momentum: see above.
      weight_decay: see above.
      undecayed: patterns (`parameters.py`) of the parameters that do not decay.
      bias_rate: how many times as fast as the rest biases learn (2 in Caffe).
      clip_norm: longer gradients are shortened to this norm; 0 for never.
    """

    def scale_biases(updates, parameters=None):
        del parameters
        return jax.tree.map(
            lambda update, is_bias: update * bias_rate if is_bias else update,
            updates,
            matching(updates, "*/bias"),
        )

    return optax.chain(
        _clip(clip_norm),
        optax.add_decayed_weights(weight_decay, mask=_decays(undecayed)),
        optax.stateless(scale_biases),
        optax.scale_by_learning_rate(schedule),
        optax.trace(decay=momentum),
    )


def adam(
    schedule: optax.Schedule, weight_decay: float, undecayed: str = "", clip_norm: float = 0.0
) -> optax.GradientTransformation:
    """Adam with decoupled weight decay.

    Not the paper's, but from scratch it needs far fewer steps than SGD.

    Args:
      schedule: the rate by step.
      weight_decay: see `sgd`.
      undecayed: see `sgd`.
      clip_norm: see `sgd`.
    """
    return optax.chain(
        _clip(clip_norm),
        optax.adamw(schedule, weight_decay=weight_decay, mask=_decays(undecayed)),
    )


def _clip(norm: float) -> optax.GradientTransformation:
    return optax.clip_by_global_norm(norm) if norm else optax.identity()


def _decays(undecayed: str):
    return lambda parameters: jax.tree.map(lambda left: not left, matching(parameters, undecayed))


def build_schedule(config: Any) -> optax.Schedule:
    """The learning rate by step, as a config of `configs/` wants it.

    Raises:
      UserError: a field has an impossible value.
    """
    learning_rate = config.learning_rate
    if config.base_batch_size:
        learning_rate *= config.batch_size / config.base_batch_size
    if config.schedule == "step":
        return step_schedule(
            learning_rate, config.steps, config.learning_rate_drops, config.warmup_steps
        )
    if config.schedule == "cosine":
        return cosine_schedule(learning_rate, config.steps, config.warmup_steps)
    raise UserError(f"config.schedule is {config.schedule!r}, but must be step or cosine")


def build_optimizer(config: Any, schedule: optax.Schedule) -> optax.GradientTransformation:
    """The optimiser that a config of `configs/` wants.

    Raises:
      UserError: there is no such optimiser.
    """
    if config.optimizer == "sgd":
        return sgd(
            schedule,
            config.momentum,
            config.weight_decay,
            config.no_weight_decay,
            config.bias_rate,
            config.clip_norm,
        )
    if config.optimizer == "adam":
        return adam(schedule, config.weight_decay, config.no_weight_decay, config.clip_norm)
    raise UserError(f"config.optimizer is {config.optimizer!r}, but must be sgd or adam")
