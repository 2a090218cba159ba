"""Matches default boxes to objects (paper section 2.2, "Matching strategy").

First every object gets its own default box: the pair of highest IoU in the whole image is
matched and removed, then the next, until no object is left. Then every free default box is matched
to the object of its highest IoU, if that reaches a threshold. Caffe: `MatchBBox` in
`bbox_util.cpp`.
"""

import functools

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int32, Integer

from ssd_jax.config.schema import LossConfig
from ssd_jax.detection.box_coder import encode
from ssd_jax.detection.boxes import ArrayLike, cxcywh_to_xyxy
from ssd_jax.detection.exact_iou import ONE, fixed_point_iou
from ssd_jax.detection.labels import BACKGROUND, IGNORED

UNMATCHED = -1  # instead of an object's index: the default box is not matched

# Caffe does not count an IoU below this as an overlap.
MINIMUM_IOU = round(1e-6 * ONE)


def _best(
    iou: Int32[ArrayLike, "objects boxes"], axis: int
) -> tuple[Int32[Array, " rest"], Int32[Array, " rest"]]:
    """The largest numbers along an axis and their indices (the first of equal ones)."""

    def better(one: tuple[Array, Array], other: tuple[Array, Array]) -> tuple[Array, Array]:
        (iou, place), (other_iou, other_place) = one, other
        is_better = (iou > other_iou) | ((iou == other_iou) & (place < other_place))
        return jnp.where(is_better, iou, other_iou), jnp.where(is_better, place, other_place)

    places = jax.lax.broadcasted_iota(jnp.int32, iou.shape, axis)
    return jax.lax.reduce((iou, places), (jnp.int32(-1), jnp.int32(0)), better, (axis,))


def bipartite_match(iou: Int32[ArrayLike, "objects boxes"]) -> Int32[Array, " boxes"]:
    """Greedy one-to-one matching: highest IoU first, every object and box used once.

    Implemented as deferred acceptance: each object proposes to the best default box that does not
    hold a better object yet; each box keeps the best proposal. Both sides rank pairs by the same
    IoU, so the result is the greedy one, in a few parallel rounds instead of one round an object.
    Among equal IoUs the lower object index goes first, then the lower box index.

    Args:
      iou: `[objects, boxes] int32`, in units of 1 / `exact_iou.ONE`; zeros in rows of padding.

    Returns:
      The matched object of each box, or `UNMATCHED`.
    """
    num_objects, num_boxes = iou.shape
    objects = jnp.arange(num_objects)[:, None]
    boxes = jnp.arange(num_boxes)[None, :]
    iou = jnp.where(iou > MINIMUM_IOU, iou, 0)

    def propose(matching):
        """Runs a round. A matching is the object of each box, its IoU, and whether to continue."""
        held_object, held_iou, _ = matching
        open_to = (iou > held_iou) | ((iou == held_iou) & (objects <= held_object))
        wish = jnp.where(open_to, iou, 0)
        wished_iou, wished_box = _best(wish, axis=1)
        proposed_iou = jnp.where(boxes == wished_box[:, None], wished_iou[:, None], 0)
        best_iou, best_object = _best(proposed_iou, axis=0)
        best_object = jnp.where(best_iou > 0, best_object, UNMATCHED)
        turned_away = jnp.sum(wished_iou > 0) > jnp.sum(best_iou > 0)
        return best_object, best_iou, turned_away

    nobody = jnp.full(num_boxes, UNMATCHED, jnp.int32)
    start = (nobody, jnp.zeros(num_boxes, iou.dtype), jnp.array(True))
    matched, _, _ = jax.lax.while_loop(lambda matching: matching[2], propose, start)
    return matched


def match(iou: Int32[ArrayLike, "objects boxes"], iou_threshold: float) -> Int32[Array, " boxes"]:
    """Bipartite matching, then each free default box is matched to its best object.

    Args:
      iou: `[objects, boxes] int32`, in units of 1 / `exact_iou.ONE`; zeros in rows of padding.
      iou_threshold: the minimum IoU of the second step.

    Returns:
      The matched object of each box, or `UNMATCHED`.
    """
    first = bipartite_match(iou)
    best_iou, best_object = _best(iou, axis=0)
    second = jnp.where(best_iou >= round(iou_threshold * ONE), best_object, UNMATCHED)
    return jnp.where(first != UNMATCHED, first, second)


@jax.named_scope("matching")
def match_targets(
    boxes: Float[ArrayLike, "batch objects 4"],
    labels: Integer[ArrayLike, "batch objects"],
    default_boxes: Float[ArrayLike, "boxes 4"],
    settings: LossConfig = LossConfig(),
) -> tuple[Float[Array, "batch boxes 4"], Integer[Array, "batch boxes"]]:
    """Computes the training targets of each image.

    Args:
      boxes: ground truth, `xyxy`, padded.
      labels: classes from 1; 0 marks padding.
      default_boxes: `cxcywh`.
      settings: `match_iou_threshold`, and `boundary_boxes`: whether default boxes that reach beyond
        the image are matched; otherwise they are ignored (paper table 3; Caffe:
        `ignore_cross_boundary_bbox`).

    Returns:
      Offsets, meaningful where matched, and labels: those of matched objects, `BACKGROUND`, or
      `IGNORED` for default boxes that are not trained (`labels.py`).
    """
    match_image = functools.partial(_match_image, default_boxes=default_boxes, settings=settings)
    return jax.vmap(match_image)(boxes, labels)


def _match_image(
    boxes: Float[ArrayLike, "objects 4"],
    labels: Integer[ArrayLike, " objects"],
    default_boxes: Float[ArrayLike, "boxes 4"],
    settings: LossConfig,
) -> tuple[Float[Array, "boxes 4"], Integer[Array, " boxes"]]:
    """`match_targets` for one image."""
    inside = None if settings.boundary_boxes else lies_inside(default_boxes)
    iou = fixed_point_iou(boxes, default_boxes)
    iou = jnp.where((labels > BACKGROUND)[:, None], iou, 0)
    if inside is not None:
        iou = jnp.where(inside, iou, 0)
    matched = match(iou, settings.match_iou_threshold)
    target_labels = jnp.where(matched == UNMATCHED, BACKGROUND, labels[matched])
    if inside is not None:
        target_labels = jnp.where(inside, target_labels, IGNORED)
    return encode(boxes[matched], default_boxes), target_labels


def lies_inside(default_boxes: Float[ArrayLike, "boxes 4"]) -> Bool[Array, " boxes"]:
    """Whether a box `cxcywh` is within the image."""
    corners = cxcywh_to_xyxy(default_boxes)
    return jnp.all((corners >= 0) & (corners <= 1), axis=-1)
