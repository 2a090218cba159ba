"""One training step: a pure function of state and batch, run on every device."""

import operator
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.typing import ArrayLike

from ssd_jax.config.schema import Config, LossConfig
from ssd_jax.detection.losses import MultiboxLoss
from ssd_jax.distributed import devices
from ssd_jax.models.network import Network, Variables
from ssd_jax.training.augmentation import image_keys, strength_at
from ssd_jax.training.detection_loss import Batch, detection_loss
from ssd_jax.training.joining import Joined, StateJoining
from ssd_jax.training.optimizer import make_optimizer, make_schedule
from ssd_jax.training.parameters import Mask, merge, split
from ssd_jax.training.state import TrainState

Metrics = dict[str, jax.Array]


class StepNumbers(NamedTuple):
    """Numbers of a step that are inputs of its program, so that new values need no compilation."""

    seed: ArrayLike  # [2] uint32: the data of the run's key
    learning_rate: ArrayLike  # [] float32
    strength: ArrayLike  # [] float32: of the augmentation, see `strength_at`


TrainStep = Callable[[TrainState, Batch, StepNumbers], tuple[TrainState, Metrics]]


def step_numbers(config: Config) -> Callable[[int], StepNumbers]:
    """The numbers of a run's steps, by the number of steps done before."""
    seed = np.asarray(jax.random.key_data(jax.random.key(config.seed)))
    done = np.arange(config.steps)
    rates = make_schedule(config)(done).astype(np.float32)
    strengths = strength_at(config, done)
    return lambda step: StepNumbers(seed, rates[step], strengths[step])


def make_train_step(config: Config, network: Network, frozen: Mask | None = None) -> TrainStep:
    """Makes `step(state, batch, numbers) -> (state, metrics)`, for `devices.pmap_train_step`.

    The batch holds this device's share of `image`, `window`, `boxes` and `labels` (see
    `data/training_batches.py`). Losses, gradients and counts are summed over gradient accumulation
    steps and devices; then the sums are divided by the number of all positives. The update is
    therefore that of the global batch for any number of devices. It is not applied if the loss, the
    gradient or the update is not finite.

    Args:
      config: the config of the run.
      network: the network to train.
      frozen: the parameters that are not trained; None for none.
    """
    has_plain_steps = bool(config.augment.plain_start or config.augment.plain_end)

    def train_step(
        state: TrainState, batch: Batch, numbers: StepNumbers
    ) -> tuple[TrainState, Metrics]:
        trainable, fixed = split(state.parameters, frozen)
        strength = numbers.strength if has_plain_steps else 1.0

        def loss_of_part(
            trainable: Variables, batch_stats: Variables, part: Batch, keys: jax.Array
        ) -> tuple[jax.Array, tuple[MultiboxLoss, Variables]]:
            sums, batch_stats = detection_loss(
                network,
                config,
                merge(trainable, fixed),
                batch_stats,
                part,
                keys,
                batch_axis=devices.DEVICES,
                strength=strength,
            )
            return sums.total(config.loss), (sums, batch_stats)

        positions = devices.global_position(batch["image"].shape[0])
        run_key = jax.random.wrap_key_data(jnp.asarray(numbers.seed))
        keys = image_keys(run_key, state.step, positions)
        gradients, sums, batch_stats = accumulate_gradients(
            loss_of_part, trainable, state.batch_stats, (batch, keys), config.accumulate
        )
        joining = StateJoining(state, frozen, config)
        joined = joining.join(state)
        gradients, metrics = mean_over_positives(
            joining.parameters.join(gradients), sums, config.loss
        )
        new_state, metrics["update_norm"] = update(joined, gradients, config, numbers.learning_rate)
        new_state = new_state._replace(batch_stats=joining.batch_stats.join(batch_stats))
        return joining.separate(unless_nonfinite(joined, new_state, metrics)), metrics

    return train_step


def accumulate_gradients(
    loss_of_part: Callable[..., tuple[jax.Array, tuple[MultiboxLoss, Variables]]],
    parameters: Variables,
    batch_stats: Variables,
    share: tuple[Batch, jax.Array],
    num_parts: int,
) -> tuple[Variables, MultiboxLoss, Variables]:
    """Gradient accumulation: adds up the gradients of the parts of a share, one after the other.

    It needs the memory of one part. Batch norm uses the same part on all devices at a time.

    Args:
      loss_of_part: a function of parameters, batch statistics and a part of the share, which
        returns the loss, its sums, and the batch statistics after it.
      parameters: the parameters to differentiate by.
      batch_stats: before the first part.
      share: this device's images, with boxes and labels, and their keys.
      num_parts: gradient accumulation steps.

    Returns:
      The gradients and the sums of the whole share, and the batch statistics after it.
    """
    differentiate = jax.grad(loss_of_part, has_aux=True)

    def add_part(
        carry: tuple[Variables, Variables, MultiboxLoss], part: tuple[Batch, jax.Array]
    ) -> tuple[tuple[Variables, Variables, MultiboxLoss], None]:
        batch_stats, gradients, sums = carry
        part_gradients, (part_sums, batch_stats) = differentiate(parameters, batch_stats, *part)
        added = jax.tree.map(jnp.add, (gradients, sums), (part_gradients, part_sums))
        return (batch_stats, *added), None

    # Part p has every image whose index in the share is p modulo `num_parts`. A share has a
    # multiple of `num_parts` images, so the same is true in the whole batch, and batch norm uses
    # the same images in part p for any number of devices.
    parts = jax.tree.map(
        lambda array: array.reshape(-1, num_parts, *array.shape[1:]).swapaxes(0, 1), share
    )
    no_gradients = jax.tree.map(jnp.zeros_like, parameters)
    nothing = MultiboxLoss(*(jnp.zeros(()) for _ in MultiboxLoss._fields))
    carry = (batch_stats, no_gradients, nothing)
    if num_parts > 1 and jax.default_backend() != "cpu":
        carry, _ = jax.lax.scan(add_part, carry, parts)
    else:  # no loop: XLA's convolutions in loops take ten times as long on a CPU
        for number in range(num_parts):
            part, keys = jax.tree.map(operator.itemgetter(number), parts)
            carry, _ = add_part(carry, (part if number == 0 else _after(carry, part), keys))
    batch_stats, gradients, sums = carry
    return gradients, sums, batch_stats


def _after(computed: Any, batch: Batch) -> Batch:
    """Makes a batch depend on some arrays, so that XLA computes them first.

    Otherwise XLA would compute several batches in parallel, with the memory of all of them.
    """
    numbers = [jnp.ravel(array)[0] for array in jax.tree.leaves(computed)]
    there = ~jnp.any(jnp.stack(numbers) < -jnp.inf)  # always
    return jax.tree.map(lambda array: jnp.where(there, array, jnp.zeros_like(array)), batch)


def mean_over_positives(
    gradients: Variables, sums: MultiboxLoss, settings: LossConfig
) -> tuple[Variables, Metrics]:
    """Computes gradients and metrics of the global batch from the sums of the devices."""
    gradients, sums = devices.sum_over_devices((gradients, sums))
    normaliser = jnp.maximum(sums.num_positives, 1)
    gradients = jax.tree.map(lambda gradient: gradient / normaliser, gradients)
    mean = sums._replace(
        localisation=sums.localisation / normaliser, confidence=sums.confidence / normaliser
    )
    return gradients, {
        "loss": mean.total(settings),
        "loc_loss": mean.localisation,
        "conf_loss": mean.confidence,
        "positives": sums.num_positives,
        "negatives": sums.num_negatives,
        "gradient_norm": optax.tree.norm(gradients),
    }


@jax.named_scope("update")
def update(
    joined: TrainState, gradients: Joined, config: Config, learning_rate: ArrayLike
) -> tuple[TrainState, jax.Array]:
    """The state after an update, and the update's norm; both states are those of `StateJoining`."""
    optimizer = make_optimizer(config, lambda _: learning_rate)
    before = joined.parameters["trained"]
    updates, opt_state = optimizer.update(gradients, joined.opt_state, before)
    parameters = joined.parameters | {"trained": optax.apply_updates(before, updates)}
    new = TrainState(
        step=joined.step + 1,
        parameters=parameters,
        averaged=moving_average(joined, parameters, config.ema),
        batch_stats=joined.batch_stats,
        opt_state=opt_state,
    )
    return new, optax.tree.norm(updates)


def moving_average(state: TrainState, parameters: Variables, decay: float) -> Variables:
    """The moving average of the parameters after one more step.

    Args:
      state: before the step.
      parameters: after the step.
      decay: of the average; 0 = no average.
    """
    if not decay:
        return state.averaged
    steps = state.step.astype(jnp.float32)
    rate = 1 - jnp.minimum(decay, (1 + steps) / (10 + steps))
    return jax.tree.map(lambda old, new: old + rate * (new - old), state.averaged, parameters)


@jax.named_scope("update")
def unless_nonfinite(old: TrainState, new: TrainState, metrics: Metrics) -> TrainState:
    """The new state, or the old one with new step counts if a watched number is not finite."""
    watched = ("loss", "gradient_norm", "update_norm")
    finite = jnp.all(jnp.isfinite(jnp.stack([metrics[name] for name in watched])))

    on_cpu = jax.default_backend() == "cpu"

    def choose(old: jax.Array, new: jax.Array) -> jax.Array:
        if jnp.issubdtype(new.dtype, jnp.integer):
            return new
        if on_cpu and new.ndim == 1:
            # Vectors are joined arrays. XLA would compile their update again for each array that is
            # sliced out of them, but not the result of a condition.
            return jax.lax.cond(finite, lambda: new, lambda: old)
        return jnp.where(finite, new, old)

    return jax.tree.map(choose, old, new)
