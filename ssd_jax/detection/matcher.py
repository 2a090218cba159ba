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


def _best(iou: jax.Array, axis: int) -> tuple[jax.Array, jax.Array]:
    """The largest numbers along an axis and their places, of equal ones the first; in one pass."""

    def better(one, other):
        (iou, place), (other_iou, other_place) = one, other
        is_better = (iou > other_iou) | ((iou == other_iou) & (place < other_place))
        return jnp.where(is_better, iou, other_iou), jnp.where(is_better, place, other_place)

    places = jax.lax.broadcasted_iota(jnp.int32, iou.shape, axis)
    return jax.lax.reduce((iou, places), (jnp.int32(-1), jnp.int32(0)), better, (axis,))


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
        """One round. A matching is the object each box holds, its IoU, and whether more follow."""
        held_object, held_iou, _ = matching
        open_to = (iou > held_iou) | ((iou == held_iou) & (objects <= held_object))
        wish = jnp.where(open_to, iou, 0)
        wished_iou, wished_box = _best(wish, axis=1)
        proposed_iou = jnp.where(boxes == wished_box[:, None], wished_iou[:, None], 0)
        best_iou, best_object = _best(proposed_iou, axis=0)
        best_object = jnp.where(best_iou > 0, best_object, BACKGROUND)
        turned_away = jnp.sum(wished_iou > 0) > jnp.sum(best_iou > 0)
        return best_object, best_iou, turned_away

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
    best_iou, best_object = _best(iou, axis=0)
    second = jnp.where(best_iou >= round(iou_threshold * ONE), best_object, BACKGROUND)
    return jnp.where(first != BACKGROUND, first, second)


@jax.named_scope("matching")
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
