"""The loss of SSD for a batch of images: augmentation, network, matching and loss.

These are pure functions, which also run outside of `steps.py` and its `pmap`.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from ssd_jax.config.schema import Config
from ssd_jax.detection.losses import MultiboxLoss, multibox_loss
from ssd_jax.detection.matcher import match_targets
from ssd_jax.detection.postprocess import Detections, score_boxes
from ssd_jax.models.network import Network, Variables
from ssd_jax.models.prediction import final_detections
from ssd_jax.training.augmentation import augment

Batch = dict[str, jax.Array]
EvaluationStep = Callable[[tuple[Variables, Variables], Batch], tuple[Detections, jax.Array]]


def detection_loss(
    network: Network,
    settings: Config,
    parameters: Variables,
    batch_stats: Variables,
    batch: Batch,
    keys: jax.Array,
    batch_axis: str | None = None,
    strength: ArrayLike = 1.0,
) -> tuple[MultiboxLoss, Variables]:
    """Augments a batch, runs the network on it and compares its outputs with the ground truth.

    Args:
      network: the network to train.
      settings: `augment`, `loss` and `freeze_batch_norm` are used.
      parameters: those of the network.
      batch_stats: those of the network; unchanged with `freeze_batch_norm`.
      batch: `image` `[batch, size, size, 3]` uint8 RGB, `window` `[batch, 4]` (the place
        of the image on the canvas), `boxes` `[batch, objects, 4]`, both `xyxy`, and `labels`
        `[batch, objects]`, where 0 marks padding.
      keys: `[batch]` random keys, from `image_keys`.
      batch_axis: see `Network.apply`.
      strength: of the augmentation, from `strength_at`.

    Returns:
      The sums of the loss, to be divided by the positives of the global batch (at least 1), and the
      batch statistics after this batch.
    """
    pixels, boxes = augment(
        keys,
        batch["image"],
        batch["window"],
        batch["boxes"],
        batch["labels"],
        settings.augment,
        strength,
    )
    images = network.normalise(pixels)
    (offsets, logits), batch_stats = network.apply(
        parameters,
        batch_stats,
        images,
        train=not settings.freeze_batch_norm,
        batch_axis=batch_axis,
    )
    default_boxes = network.default_boxes()
    targets = match_targets(boxes, batch["labels"], default_boxes, settings.loss)
    return multibox_loss(offsets, logits, *targets, settings.loss, default_boxes), batch_stats


def make_evaluation_step(network: Network, settings: Config) -> EvaluationStep:
    """Makes `step((parameters, batch_stats), batch)`: detections, and losses `[batch, 2]`.

    The two numbers are the sum over an image's boxes, and the number of its positives. The loss is
    that of training, but without augmentation and with the batch statistics from training.

    Args:
      network: the network to evaluate.
      settings: `detection` and `loss` are used.
    """
    default_boxes = network.default_boxes()

    def image_loss(
        offsets: jax.Array, logits: jax.Array, boxes: jax.Array, labels: jax.Array
    ) -> jax.Array:
        targets = match_targets(boxes[None], labels[None], default_boxes, settings.loss)
        sums = multibox_loss(offsets[None], logits[None], *targets, settings.loss, default_boxes)
        return jnp.stack([sums.total(settings.loss), sums.num_positives])

    def step(variables: tuple[Variables, Variables], batch: Batch) -> tuple[Detections, jax.Array]:
        images = network.normalise(batch["image"])
        (offsets, logits), _ = network.apply(*variables, images, train=False)
        scored = score_boxes(offsets, logits, default_boxes)
        losses = jax.vmap(image_loss)(offsets, logits, batch["boxes"], batch["labels"])
        return final_detections(*scored, settings.detection), losses

    return step
