"""One training step: a pure function of state and batch, run on every device by `parallel`."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import optax

from ssd_jax import parallel
from ssd_jax.detection.losses import multibox_loss
from ssd_jax.detection.matcher import match_targets
from ssd_jax.models.network import Network
from ssd_jax.training.photometric import augment, image_keys
from ssd_jax.training.state import TrainState

Metrics = dict[str, jax.Array]


def make_train_step(
    network: Network,
    optimizer: optax.GradientTransformation,
    *,
    seed: int,
    color: bool = True,
    flip: bool = True,
    iou_threshold: float = 0.5,
    negatives_per_positive: float = 3.0,
    min_negatives: int = 0,
    localisation_weight: float = 1.0,
) -> Callable[[TrainState, dict[str, jax.Array]], tuple[TrainState, Metrics]]:
    """Makes `train_step(state, batch) -> (state, metrics)`.

    The batch holds this device's share of `image`, `window`, `boxes` and `labels` (see
    `data/pipeline.py`). Gradients and the number of positives are summed over devices, so that
    the update is that of the global batch, however many devices share it.

    Args:
      network: what is trained.
      optimizer: see `optimizer.py`.
      seed: of the augmentation on the device.
      color: see `photometric.augment`.
      flip: see `photometric.augment`.
      iou_threshold: see `match`.
      negatives_per_positive: see `hard_negatives`.
      min_negatives: see `hard_negatives`.
      localisation_weight: α of paper equation 1.
    """
    default_boxes = network.default_boxes()

    def train_step(state: TrainState, batch: dict[str, jax.Array]) -> tuple[TrainState, Metrics]:
        positions = parallel.global_position(batch["image"].shape[0])
        pixels, boxes = augment(
            image_keys(seed, state.step, positions),
            batch["image"],
            batch["window"],
            batch["boxes"],
            batch["labels"],
            color=color,
            flip=flip,
        )
        target_offsets, target_labels = jax.vmap(match_targets, in_axes=(0, 0, None, None))(
            boxes, batch["labels"], default_boxes, iou_threshold
        )

        def loss_function(parameters):
            (offsets, logits), batch_stats = network.apply(
                parameters, state.batch_stats, network.normalise(pixels), train=True
            )
            sums = multibox_loss(
                offsets,
                logits,
                target_offsets,
                target_labels,
                negatives_per_positive,
                min_negatives,
            )
            num_positives = parallel.sum_over_devices(sums.num_positives)
            normaliser = jnp.maximum(num_positives, 1)
            localisation = sums.localisation / normaliser
            confidence = sums.confidence / normaliser
            loss = localisation_weight * localisation + confidence
            return loss, (localisation, confidence, num_positives, batch_stats)

        loss_and_gradients = jax.value_and_grad(loss_function, has_aux=True)
        (loss, auxiliary), gradients = loss_and_gradients(state.parameters)
        localisation, confidence, num_positives, batch_stats = auxiliary
        gradients, loss, localisation, confidence = parallel.sum_over_devices(
            (gradients, loss, localisation, confidence)
        )

        updates, opt_state = optimizer.update(gradients, state.opt_state, state.parameters)
        new_state = TrainState(
            step=state.step + 1,
            parameters=optax.apply_updates(state.parameters, updates),
            batch_stats=batch_stats,
            opt_state=opt_state,
        )
        metrics = {
            "loss": loss,
            "loc_loss": localisation,
            "conf_loss": confidence,
            "positives": num_positives,
        }
        return new_state, metrics

    return train_step
