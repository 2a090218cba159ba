"""From the network's output to detections: decode, NMS per class, best of the image."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from ssd_jax.detection.box_coder import decode
from ssd_jax.detection.boxes import intersection_over_union


class Detections(NamedTuple):
    """The objects found in each image, best first, padded with zeros."""

    boxes: jax.Array  # [batch, detections, 4] xyxy, not clipped to the image
    scores: jax.Array  # [batch, detections]
    labels: jax.Array  # [batch, detections] int32, 0 = none


def non_maximum_suppression(
    boxes: jax.Array, candidate: jax.Array, iou_threshold: float
) -> jax.Array:
    """Greedy non-maximum suppression, computed in parallel.

    A box survives if no surviving box before it overlaps it by more than the threshold. Repeating
    that rule from the guess "all survive" settles at least one more box in each round, and in
    practice all of them in a handful.

    Args:
      boxes: `[..., boxes, 4] xyxy`, best first; each row of boxes for itself.
      candidate: `[..., boxes] bool`; the others neither survive nor suppress.
      iou_threshold: a higher IoU suppresses.

    Returns:
      `[..., boxes] bool`: the survivors.
    """
    order = jnp.arange(boxes.shape[-2])
    every_pair = jnp.vectorize(intersection_over_union, signature="(n,k),(m,k)->(n,m)")
    suppresses = every_pair(boxes, boxes) > iou_threshold
    suppresses &= order[:, None] < order[None, :]

    def settle(state):
        keep, _ = state
        suppressed = jnp.any(suppresses & keep[..., :, None], axis=-2)
        new_keep = candidate & ~suppressed
        return new_keep, jnp.any(new_keep != keep)

    return jax.lax.while_loop(lambda state: state[1], settle, (candidate, jnp.array(True)))[0]


def detect_image(
    boxes: jax.Array,
    scores: jax.Array,
    score_threshold: float,
    iou_threshold: float,
    boxes_per_class: int,
    detections_per_image: int,
) -> Detections:
    """The detections of one image; see `detect`.

    Args:
      boxes: `[boxes, 4] xyxy`.
      scores: `[classes, boxes]`, without the background.
      score_threshold: see `detect`.
      iou_threshold: see `detect`.
      boxes_per_class: see `detect`.
      detections_per_image: see `detect`.
    """
    best_scores, best = jax.lax.top_k(scores, min(boxes_per_class, scores.shape[1]))
    best_boxes = boxes[best]
    keep = non_maximum_suppression(best_boxes, best_scores > score_threshold, iou_threshold)
    kept_scores = jnp.where(keep, best_scores, 0.0).reshape(-1)
    num_detections = min(detections_per_image, kept_scores.size)
    final_scores, final = jax.lax.top_k(kept_scores, num_detections)
    found = final_scores > 0
    labels = (final // best_scores.shape[1] + 1).astype(jnp.int32)
    padding = detections_per_image - num_detections
    return Detections(
        boxes=jnp.pad(
            jnp.where(found[:, None], best_boxes.reshape(-1, 4)[final], 0.0), ((0, padding), (0, 0))
        ),
        scores=jnp.pad(final_scores, (0, padding)),
        labels=jnp.pad(jnp.where(found, labels, 0), (0, padding)),
    )


def score_boxes(
    offsets: jax.Array, logits: jax.Array, default_boxes: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """Boxes, and how sure the network is of each class in them.

    Args:
      offsets: `[batch, boxes, 4]`.
      logits: `[batch, boxes, classes + 1]`, class 0 is background.
      default_boxes: `[boxes, 4] cxcywh`.

    Returns:
      `[batch, boxes, 4] xyxy` and `[batch, classes, boxes]` in [0, 1], without the background.
    """
    scores = jax.nn.softmax(logits, axis=-1)[..., 1:].swapaxes(1, 2)
    return decode(offsets, default_boxes), scores


def best_detections(
    boxes: jax.Array,
    scores: jax.Array,
    score_threshold: float,
    iou_threshold: float,
    boxes_per_class: int,
    detections_per_image: int,
) -> Detections:
    """The detections of each image; see `score_boxes` for the arrays, `detect` for the numbers."""

    def detect_one(boxes_and_scores):
        return detect_image(
            *boxes_and_scores,
            score_threshold,
            iou_threshold,
            boxes_per_class,
            detections_per_image,
        )

    # Eight images at a time bound the memory of the suppression matrices.
    return jax.lax.map(detect_one, (boxes, scores), batch_size=min(8, boxes.shape[0]))


def detect(
    offsets: jax.Array,
    logits: jax.Array,
    default_boxes: jax.Array,
    score_threshold: float = 0.01,
    iou_threshold: float = 0.45,
    boxes_per_class: int = 400,
    detections_per_image: int = 200,
) -> Detections:
    """Turns the network's output into detections (paper section 3.3, "Inference time").

    Args:
      offsets: `[batch, boxes, 4]`.
      logits: `[batch, boxes, classes + 1]`, class 0 is background.
      default_boxes: `[boxes, 4] cxcywh`.
      score_threshold: boxes of a class with no higher score are left out.
      iou_threshold: a higher IoU with a better box of the same class suppresses.
      boxes_per_class: how many of the best boxes of a class enter suppression.
      detections_per_image: how many detections of an image are kept.
    """
    return best_detections(
        *score_boxes(offsets, logits, default_boxes),
        score_threshold,
        iou_threshold,
        boxes_per_class,
        detections_per_image,
    )
