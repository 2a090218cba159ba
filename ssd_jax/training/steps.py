"""One training step: a pure function of state and batch, run on every device."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax

from ssd_jax.detection.losses import MultiboxLoss, multibox_loss
from ssd_jax.detection.matcher import match_targets
from ssd_jax.distributed import devices
from ssd_jax.models.network import Network, Variables
from ssd_jax.training.parameters import Mask, merge, split
from ssd_jax.training.photometric import augment, image_keys
from ssd_jax.training.state import TrainState

Metrics = dict[str, jax.Array]


def make_train_step(
    network: Network,
    optimizer: optax.GradientTransformation,
    *,
    seed: int,
    frozen: Mask | None = None,
    freeze_batch_norm: bool = False,
    accumulate: int = 1,
    ema: float = 0.0,
    color: bool = True,
    flip: bool = True,
    iou_threshold: float = 0.5,
    boundary_boxes: bool = True,
    negatives_per_positive: float = 3.0,
    min_negatives: int = 0,
    localisation_weight: float = 1.0,
    label_smoothing: float = 0.0,
) -> Callable[[TrainState, dict[str, jax.Array]], tuple[TrainState, Metrics]]:
    """Makes `train_step(state, batch) -> (state, metrics)`.

    The batch holds this device's share of `image`, `window`, `boxes` and `labels` (see
    `data/pipeline.py`). Sums of losses and gradients, and counts, are added up over parts and
    devices and divided by all positives only then, so that the update is that of the global batch,
    however many share it. An update whose loss or gradient is not finite is not applied.

    Args:
      network: what is trained.
      optimizer: see `optimizer.py`.
      seed: of the augmentation on the device.
      frozen: which parameters stay as they are; None for none.
      freeze_batch_norm: whether batch norm uses, and keeps, the statistics it started with.
      accumulate: in how many parts a device works through its share, one after the other, to
        need the memory of one. Batch norm sees one part, of all devices, at a time.
      ema: decay of the moving average of parameters; 0 for none.
      color: see `photometric.augment`.
      flip: see `photometric.augment`.
      iou_threshold: see `match`.
      boundary_boxes: see `match_targets`.
      negatives_per_positive: see `hard_negatives`.
      min_negatives: see `hard_negatives`.
      localisation_weight: α of paper equation 1.
      label_smoothing: see `multibox_loss`.
    """
    default_boxes = network.default_boxes()

    def loss_sums(
        parameters: Variables, batch_stats: Variables, step: jax.Array, part: dict[str, jax.Array]
    ) -> tuple[MultiboxLoss, Variables]:
        """The sums of one part of the batch, and the batch statistics after it."""
        pixels, boxes = augment(
            image_keys(seed, step, part["position"]),
            part["image"],
            part["window"],
            part["boxes"],
            part["labels"],
            color=color,
            flip=flip,
        )
        targets = jax.vmap(match_targets, in_axes=(0, 0, None, None, None))
        target_offsets, target_labels = targets(
            boxes, part["labels"], default_boxes, iou_threshold, boundary_boxes
        )
        (offsets, logits), batch_stats = network.apply(
            parameters, batch_stats, network.normalise(pixels), train=not freeze_batch_norm
        )
        sums = multibox_loss(
            offsets,
            logits,
            target_offsets,
            target_labels,
            negatives_per_positive,
            min_negatives,
            label_smoothing,
        )
        return sums, batch_stats

    def train_step(state: TrainState, batch: dict[str, jax.Array]) -> tuple[TrainState, Metrics]:
        trainable, fixed = split(state.parameters, frozen)

        def weighted_sum(trainable, batch_stats, part):
            parameters = merge(trainable, fixed)
            sums, batch_stats = loss_sums(parameters, batch_stats, state.step, part)
            return localisation_weight * sums.localisation + sums.confidence, (sums, batch_stats)

        def work_through(carry, part):
            batch_stats, gradients, sums = carry
            differentiate = jax.grad(weighted_sum, has_aux=True)
            part_gradients, (part_sums, batch_stats) = differentiate(trainable, batch_stats, part)
            added = jax.tree.map(jnp.add, (gradients, sums), (part_gradients, part_sums))
            return (batch_stats, *added), None

        positions = devices.global_position(batch["image"].shape[0])
        # Part p is every image whose place in the share is p modulo `accumulate`: as a share holds
        # a multiple of these, so it is in the whole batch, and batch norm sees the same images in
        # part p, however many devices share them.
        parts = jax.tree.map(
            lambda array: array.reshape(-1, accumulate, *array.shape[1:]).swapaxes(0, 1),
            batch | {"position": positions},
        )
        carry = (
            state.batch_stats,
            jax.tree.map(jnp.zeros_like, trainable),
            MultiboxLoss(*(jnp.zeros(()) for _ in MultiboxLoss._fields)),
        )
        if accumulate == 1:
            # Without a loop, in which XLA would use one core of a CPU.
            carry, _ = work_through(carry, jax.tree.map(lambda array: array[0], parts))
        else:
            carry, _ = jax.lax.scan(work_through, carry, parts)
        batch_stats, *added = carry

        gradients, sums = devices.sum_over_devices(tuple(added))
        normaliser = jnp.maximum(sums.num_positives, 1)
        gradients = jax.tree.map(lambda gradient: gradient / normaliser, gradients)
        localisation, confidence = sums.localisation / normaliser, sums.confidence / normaliser

        metrics = {
            "loss": localisation_weight * localisation + confidence,
            "loc_loss": localisation,
            "conf_loss": confidence,
            "positives": sums.num_positives,
            "negatives": sums.num_negatives,
            "gradient_norm": optax.tree.norm(gradients),
        }

        with jax.named_scope("update"):
            updates, opt_state = optimizer.update(gradients, state.opt_state, trainable)
            parameters = merge(optax.apply_updates(trainable, updates), fixed)
        new_state = TrainState(
            step=state.step + 1,
            parameters=parameters,
            averaged=_moving_average(state, parameters, ema) if ema else state.averaged,
            batch_stats=batch_stats,
            opt_state=opt_state,
        )
        finite = jnp.isfinite(metrics["loss"]) & jnp.isfinite(metrics["gradient_norm"])
        return _updated(state, new_state, finite), metrics

    return train_step


def build_train_step(
    config: Any,
    network: Network,
    optimizer: optax.GradientTransformation,
    frozen: Mask | None = None,
) -> Callable[[TrainState, dict[str, jax.Array]], tuple[TrainState, Metrics]]:
    """The train step of a config of `configs/`; see `make_train_step`."""
    return make_train_step(
        network,
        optimizer,
        seed=config.seed,
        frozen=frozen,
        freeze_batch_norm=config.freeze_batch_norm,
        accumulate=config.accumulate,
        ema=config.ema,
        color=config.augment.color,
        flip=config.augment.flip,
        iou_threshold=config.loss.match_iou_threshold,
        boundary_boxes=config.loss.boundary_boxes,
        negatives_per_positive=config.loss.negatives_per_positive,
        min_negatives=config.loss.min_negatives,
        localisation_weight=config.loss.localisation_weight,
        label_smoothing=config.loss.label_smoothing,
    )


@jax.named_scope("update")
def _updated(old: TrainState, new: TrainState, finite: jax.Array) -> TrainState:
    """The new state; where the update is not finite, the old one but for what counts steps."""

    def choose(old, new):
        is_count = jnp.issubdtype(new.dtype, jnp.integer)
        return new if is_count else jnp.where(finite, new, old)

    return jax.tree.map(choose, old, new)


def _moving_average(state: TrainState, parameters: Variables, decay: float) -> Variables:
    """The averaged parameters after one more step; early ones count for less and less."""
    steps = state.step.astype(jnp.float32)
    decay = jnp.minimum(decay, (1 + steps) / (10 + steps))
    return jax.tree.map(
        lambda old, new: old + (1 - decay) * (new - old), state.averaged, parameters
    )
