"""From pictures to detections on the device: the network, then its outputs decoded."""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from ssd_jax.detection.postprocess import Detections, best_detections, score_boxes
from ssd_jax.models.network import Network, Variables


def make_predict_step(
    network: Network,
    *,
    score_threshold: float,
    iou_threshold: float,
    boxes_per_class: int,
    detections_per_image: int,
    flip: bool = False,
) -> Callable[[tuple[Variables, Variables], jax.Array], Detections]:
    """Makes `predict((parameters, batch_stats), images)`: pictures to detections, on the device.

    Images are `[batch, size, size, 3]` uint8 RGB.

    Args:
      network: what is run.
      score_threshold: see `detect`.
      iou_threshold: see `detect`.
      boxes_per_class: see `detect`.
      detections_per_image: see `detect`.
      flip: whether the mirrored picture is looked at too; boxes of both enter suppression.
    """
    default_boxes = network.default_boxes()

    def boxes_and_scores(variables, images):
        (offsets, logits), _ = network.apply(*variables, network.normalise(images), train=False)
        return score_boxes(offsets, logits, default_boxes)

    def predict(variables: tuple[Variables, Variables], images: jax.Array) -> Detections:
        boxes, scores = boxes_and_scores(variables, images)
        if flip:
            mirrored, mirrored_scores = boxes_and_scores(variables, images[:, :, ::-1])
            x_min, y_min, x_max, y_max = jnp.split(mirrored, 4, axis=-1)
            mirrored = jnp.concatenate([1 - x_max, y_min, 1 - x_min, y_max], axis=-1)
            boxes = jnp.concatenate([boxes, mirrored], axis=1)
            scores = jnp.concatenate([scores, mirrored_scores], axis=2)
        return best_detections(
            boxes, scores, score_threshold, iou_threshold, boxes_per_class, detections_per_image
        )

    return predict
