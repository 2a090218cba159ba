"""From the network's output to detections: decode, NMS per class, best of the image."""

import functools
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from ssd_jax.detection.box_coder import decode
from ssd_jax.detection.boxes import intersection_over_union
from ssd_jax.detection.selection import indices_of_largest


class Detections(NamedTuple):
    """The objects found in each image, best first, padded with zeros."""

    boxes: jax.Array  # [batch, detections, 4] xyxy, not clipped to the image
    scores: jax.Array  # [batch, detections]
    labels: jax.Array  # [batch, detections] int32, 0 = none


def non_maximum_suppression(boxes: jax.Array, scores: jax.Array, iou_threshold: float) -> jax.Array:
    """Greedy non-maximum suppression, computed in parallel.

    A box survives if no surviving box with a higher score overlaps it by more than the threshold;
    of equal scores the lower index counts as higher. Repeating that rule from the guess "all
    survive" settles at least one more box in each round, and in practice all of them in a handful.

    Args:
      boxes: `[..., boxes, 4] xyxy`; each row of boxes for itself.
      scores: `[..., boxes]`; boxes whose score is 0 neither survive nor suppress.
      iou_threshold: a higher IoU suppresses.

    Returns:
      `[..., boxes] bool`: the survivors.
    """
    every_pair = jnp.vectorize(intersection_over_union, signature="(n,k),(m,k)->(n,m)")
    place, score = jnp.arange(scores.shape[-1]), scores[..., None, :]
    other_place, other_score = place[:, None], scores[..., :, None]
    comes_before = (other_score > score) | ((other_score == score) & (other_place < place))
    # Rows of bits, so that little memory is read in each round.
    suppresses = _pack(comes_before & (every_pair(boxes, boxes) > iou_threshold))
    candidate = scores > 0

    def settle(state):
        keep, _ = state
        suppressed = jnp.any((suppresses & _pack(keep[..., None])) != 0, axis=-2)
        new_keep = candidate & ~suppressed
        return new_keep, jnp.any(new_keep != keep)

    return jax.lax.while_loop(lambda state: state[1], settle, (candidate, jnp.array(True)))[0]


def _pack(bits: jax.Array) -> jax.Array:
    """`[..., n, m] bool` to `[..., ceil(n / 32), m] uint32`."""
    missing = -bits.shape[-2] % 32
    bits = jnp.pad(bits, [(0, 0)] * (bits.ndim - 2) + [(0, missing), (0, 0)])
    rows = jnp.split(bits, 32, axis=-2)
    words = (
        jnp.where(row, jnp.uint32(1 << place), jnp.uint32(0)) for place, row in enumerate(rows)
    )
    return functools.reduce(jnp.bitwise_or, words)


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


@jax.named_scope("suppression")
def best_detections(
    boxes: jax.Array,
    scores: jax.Array,
    score_threshold: float,
    iou_threshold: float,
    boxes_per_class: int,
    detections_per_image: int,
    select: Callable[[jax.Array, int], jax.Array] = indices_of_largest,
) -> Detections:
    """The detections of each image; see `detect` for the numbers.

    Args:
      boxes: `[..., boxes, 4] xyxy`.
      scores: `[..., classes, boxes]` in [0, 1], without the background.
      score_threshold: see `detect`.
      iou_threshold: see `detect`.
      boxes_per_class: see `detect`.
      detections_per_image: see `detect`.
      select: finds the largest in each row, as `indices_of_largest` does, in any order.
    """
    # Classes for themselves: [..., classes, chosen boxes].
    best = select(scores, boxes_per_class)
    best_scores = jnp.take_along_axis(scores, best, axis=-1)
    best_boxes = jnp.take_along_axis(boxes[..., None, :, :], best[..., None], axis=-2)
    best_scores *= best_scores > score_threshold
    keep = non_maximum_suppression(best_boxes, best_scores, iou_threshold)

    # All classes together: [..., detections].
    boxes_of_class = best.shape[-1]
    kept_scores = best_scores * keep
    kept_scores = kept_scores.reshape(*kept_scores.shape[:-2], -1)
    best_boxes = best_boxes.reshape(*kept_scores.shape, 4)
    final = select(kept_scores, detections_per_image)
    final_scores = jnp.take_along_axis(kept_scores, final, axis=-1)
    final_scores, order = jax.lax.top_k(final_scores, final.shape[-1])
    final = jnp.take_along_axis(final, order, axis=-1)
    found = final_scores > 0
    final_boxes = jnp.take_along_axis(best_boxes, final[..., None], axis=-2)
    labels = (final // boxes_of_class + 1).astype(jnp.int32)

    def padded(array, axis):
        missing = detections_per_image - final.shape[-1]
        return jnp.pad(array, [(0, missing if i == axis else 0) for i in range(array.ndim)])

    return Detections(
        boxes=padded(jnp.where(found[..., None], final_boxes, 0.0), final.ndim - 1),
        scores=padded(final_scores, final.ndim - 1),
        labels=padded(jnp.where(found, labels, 0), final.ndim - 1),
    )


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
