"""Which default box answers for which object (paper section 2.2, "Matching strategy").

First every object gets one default box for itself: the pair of highest IoU in the whole image is
matched and leaves the game, then the next, until no object is left. Then every default box still
free joins the object it overlaps best, if their IoU reaches a threshold. Caffe: `MatchBBox` in
`bbox_util.cpp`.
"""

import jax
import jax.numpy as jnp

from ssd_jax.detection.box_coder import encode
from ssd_jax.detection.boxes import cxcywh_to_xyxy
from ssd_jax.detection.exact_iou import ONE, fixed_point_iou

BACKGROUND = -1

IGNORED = -1  # as a label: neither an object nor background

# Caffe does not count an IoU below this as an overlap.
MINIMUM_IOU = round(1e-6 * ONE)


def bipartite_match(iou: jax.Array) -> jax.Array:
    """Greedy one-to-one matching: highest IoU first, every object and box used once.

    Done as deferred acceptance: each object proposes to the best default box that does not hold a
    better object yet; each box keeps the best proposal. Both sides rank pairs by the same IoU, so
    the result is the greedy one, in a few parallel rounds instead of one round an object. Among
    equal IoUs the lower object index goes first, then the lower box index.

    Args:
      iou: `[objects, boxes] int32`, in units of 1 / `exact_iou.ONE`; zeros in rows of padding.

    Returns:
      `[boxes] int32`: the matched object, -1 where there is none.
    """
    num_objects, num_boxes = iou.shape
    objects = jnp.arange(num_objects)[:, None]
    boxes = jnp.arange(num_boxes)[None, :]
    iou = jnp.where(iou > MINIMUM_IOU, iou, 0)

    def propose(matching):
        """One round. A matching is the object each box holds, its IoU, and whether it is new."""
        held_object, held_iou, _ = matching
        open_to = (iou > held_iou) | ((iou == held_iou) & (objects <= held_object))
        wish = jnp.where(open_to, iou, 0)
        proposes = (boxes == jnp.argmax(wish, axis=1)[:, None]) & (wish > 0)
        proposed_iou = jnp.where(proposes, iou, 0)
        best_iou = jnp.max(proposed_iou, axis=0)
        best_object = jnp.where(best_iou > 0, jnp.argmax(proposed_iou, axis=0), BACKGROUND)
        best_object = best_object.astype(jnp.int32)
        return best_object, best_iou, jnp.any(best_object != held_object)

    nobody = jnp.full(num_boxes, BACKGROUND, jnp.int32)
    start = (nobody, jnp.zeros(num_boxes, iou.dtype), jnp.array(True))
    matched, _, _ = jax.lax.while_loop(lambda matching: matching[2], propose, start)
    return matched


def match(iou: jax.Array, iou_threshold: float = 0.5) -> jax.Array:
    """Bipartite matching, then each default box still free joins its best object.

    Args:
      iou: `[objects, boxes] int32`, in units of 1 / `exact_iou.ONE`; zeros in rows of padding.
      iou_threshold: the IoU from which a default box joins.

    Returns:
      `[boxes] int32`: the matched object, -1 for background.
    """
    first = bipartite_match(iou)
    joins = jnp.max(iou, axis=0) >= round(iou_threshold * ONE)
    second = jnp.where(joins, jnp.argmax(iou, axis=0), BACKGROUND).astype(jnp.int32)
    return jnp.where(first != BACKGROUND, first, second)


def match_targets(
    boxes: jax.Array,
    labels: jax.Array,
    default_boxes: jax.Array,
    iou_threshold: float = 0.5,
    boundary_boxes: bool = True,
) -> tuple[jax.Array, jax.Array]:
    """What the network should say for one image.

    Args:
      boxes: `[objects, 4] xyxy` ground truth, padded.
      labels: `[objects]` classes from 1; 0 marks padding.
      default_boxes: `[boxes, 4] cxcywh`.
      iou_threshold: see `match`.
      boundary_boxes: whether default boxes that reach beyond the image take part; otherwise they
        are ignored (paper table 3; Caffe: `ignore_cross_boundary_bbox`).

    Returns:
      Offsets `[boxes, 4]` (meaningful where matched) and labels `[boxes] int32`: 0 = background,
      `IGNORED` where nothing is to be learned.
    """
    iou = fixed_point_iou(boxes, default_boxes)
    iou = jnp.where((labels > 0)[:, None], iou, 0)
    if not boundary_boxes:
        inside = _lies_inside(default_boxes)
        iou = jnp.where(inside, iou, 0)
    matched = match(iou, iou_threshold)
    target_labels = jnp.where(matched == BACKGROUND, 0, labels[matched])
    if not boundary_boxes:
        target_labels = jnp.where(inside, target_labels, IGNORED)
    return encode(boxes[matched], default_boxes), target_labels


def _lies_inside(default_boxes: jax.Array) -> jax.Array:
    """`[boxes] bool`: whether a box `cxcywh` lies within the image."""
    corners = cxcywh_to_xyxy(default_boxes)
    return jnp.all((corners >= 0) & (corners <= 1), axis=-1)
