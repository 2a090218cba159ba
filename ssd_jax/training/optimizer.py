"""Optimisers: stochastic gradient descent as in the authors' Caffe, and Adam."""

import math
from collections.abc import Callable, Sequence
from typing import cast

import jax
import numpy as np
import numpy.typing as npt
import optax

from ssd_jax.config.schema import Config, OptimizerConfig
from ssd_jax.models.network import Variables
from ssd_jax.training.parameters import Mask, matching

BIASES = "*/bias"

# The learning rate after a number of steps, which is a number or an array; outside of the train
# step.
Schedule = Callable[[npt.ArrayLike], np.ndarray]


def step_schedule(
    learning_rate: float, steps: int, drops: Sequence[float], warmup_steps: int
) -> Schedule:
    """A learning rate that is divided by 10 at given points of the run.

    Args:
      learning_rate: the rate after the warm-up, before the first drop.
      steps: steps of the whole run.
      drops: ascending fractions of the run at which the rate is divided by 10.
      warmup_steps: steps over which the rate rises linearly from 0.
    """
    boundaries = sorted(round(drop * steps) for drop in drops)

    def schedule(step: npt.ArrayLike) -> np.ndarray:
        passed = np.searchsorted(boundaries, step, side="right")
        return learning_rate * 0.1**passed * _warmup(step, warmup_steps)

    return schedule


def cosine_schedule(learning_rate: float, steps: int, warmup_steps: int) -> Schedule:
    """A learning rate that falls to 0 along half a period of the cosine.

    Args:
      learning_rate: the rate after the warm-up, before the fall.
      steps: steps of the whole run.
      warmup_steps: steps over which the rate rises linearly from 0.
    """

    def schedule(step: npt.ArrayLike) -> np.ndarray:
        fall = 0.5 * (1 + np.cos(math.pi * np.minimum(np.asarray(step) / steps, 1.0)))
        return learning_rate * fall * _warmup(step, warmup_steps)

    return schedule


def _warmup(step: npt.ArrayLike, warmup_steps: int) -> np.ndarray:
    return np.minimum(1.0, (np.asarray(step) + 1) / max(warmup_steps, 1))


def make_schedule(config: Config) -> Schedule:
    """The learning rate by step, from the global batch size and the steps of a run."""
    learning_rate = config.learning_rate
    if config.base_batch_size:
        learning_rate *= config.batch_size / config.base_batch_size
    if config.schedule == "cosine":
        return cosine_schedule(learning_rate, config.steps, config.warmup_steps)
    return step_schedule(
        learning_rate, config.steps, config.learning_rate_drops, config.warmup_steps
    )


def sgd(settings: OptimizerConfig, schedule: optax.Schedule) -> optax.GradientTransformation:
    """v ← momentum · v + rate · (gradient + weight_decay · parameter); parameter ← parameter - v.

    As in Caffe, the rate is inside the momentum, so that a drop of the rate does not shrink the
    velocity. The rate of biases is multiplied by `bias_rate` (2 in Caffe).
    """

    def scale_biases(updates: optax.Updates, parameters: optax.Params | None = None) -> Variables:
        del parameters
        return jax.tree.map(
            lambda update, is_bias: update * settings.bias_rate if is_bias else update,
            updates,
            matching(cast(Variables, updates), BIASES),
        )

    return optax.chain(
        _clip(settings.clip_norm),
        optax.add_decayed_weights(settings.weight_decay, mask=_decays(settings.no_weight_decay)),
        optax.stateless(scale_biases),
        optax.scale_by_learning_rate(schedule),
        optax.trace(decay=settings.momentum),
    )


def adam(settings: OptimizerConfig, schedule: optax.Schedule) -> optax.GradientTransformation:
    """Adam with decoupled weight decay.

    Not in the paper, but it needs far fewer steps than SGD from scratch.
    """
    mask = _decays(settings.no_weight_decay)
    return optax.chain(
        _clip(settings.clip_norm),
        optax.adamw(schedule, weight_decay=settings.weight_decay, mask=mask),
    )


def _clip(norm: float) -> optax.GradientTransformation:
    return optax.clip_by_global_norm(norm) if norm else optax.identity()


def _decays(no_weight_decay: str) -> Callable[[Variables], Mask]:
    """Marks the parameters with weight decay: all except some patterns (`parameters.py`)."""
    return lambda parameters: jax.tree.map(
        lambda left_out: not left_out, matching(parameters, no_weight_decay)
    )


def treatment(settings: OptimizerConfig, parameters: Variables) -> Variables:
    """Marks how each parameter is trained: parameters with equal marks have the same update."""
    return jax.tree.map(
        lambda *marks: marks,
        matching(parameters, settings.no_weight_decay),
        matching(parameters, BIASES),
    )


OPTIMIZERS = {"sgd": sgd, "adam": adam}


def make_optimizer(
    settings: OptimizerConfig, schedule: optax.Schedule
) -> optax.GradientTransformation:
    """The optimiser of a config, with a learning rate by step."""
    return OPTIMIZERS[settings.optimizer](settings, schedule)
