"""Converts network outputs to detections: decode, NMS per class, best of the image."""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, Int32, UInt32

from ssd_jax.config.schema import DetectionConfig
from ssd_jax.detection.box_coder import decode
from ssd_jax.detection.boxes import ArrayLike, overlap_more_than

BLOCK = 32  # boxes; each is a bit of an integer
FEW = 1024  # candidates of an image; most trained networks have fewer


class Detections(NamedTuple):
    """The objects found in each image, best first, padded with zeros."""

    boxes: Float[Array, "batch detections 4"]  # xyxy, not clipped to the image
    scores: Float[Array, "batch detections"]
    labels: Int32[Array, "batch detections"]  # 0 = none


def non_maximum_suppression(
    boxes: Float[ArrayLike, "*rows boxes 4"],
    scores: Float[ArrayLike, "*rows boxes"],
    iou_threshold: float | Float[ArrayLike, ""],
    labels: Int[ArrayLike, "*rows boxes"] | None = None,
) -> Bool[Array, "*rows boxes"]:
    """Greedy non-maximum suppression, computed in parallel.

    A box survives if no surviving box before it overlaps it by more than the threshold. All rows
    are processed in parallel, 32 boxes at a time, up to the number of boxes whose score is not 0 in
    the longest row.

    Args:
      boxes: `xyxy`, the best first; rows are independent.
      scores: 0 or more, descending; boxes whose score is 0 neither survive nor suppress.
      iou_threshold: a higher IoU suppresses.
      labels: boxes suppress only boxes of the same label; None = all have the same label.

    Returns:
      True for the boxes that survive.
    """
    boxes, candidate = jnp.asarray(boxes), jnp.asarray(scores) > 0
    if not candidate.size:
        return candidate
    num_boxes = candidate.shape[-1]
    missing = -num_boxes % BLOCK
    candidate = jnp.pad(candidate, [(0, 0)] * (candidate.ndim - 1) + [(0, missing)])
    boxes = jnp.pad(boxes, [(0, 0)] * (boxes.ndim - 2) + [(0, missing), (0, 0)])
    padded_labels = None
    if labels is not None:
        padded_labels = jnp.pad(labels, [(0, 0)] * (candidate.ndim - 1) + [(0, missing)])
    # One array per corner: otherwise the loop would extract them from the boxes in every round.
    corners = [boxes[..., corner] for corner in range(4)]
    num_blocks = -(-jnp.max(jnp.sum(candidate, axis=-1)) // BLOCK)

    def settle(state: tuple[Array, Array]) -> tuple[Array, Array]:
        """Finishes the boxes of a block, and removes the later boxes that they suppress."""
        block, alive = state
        start = block * BLOCK

        def of_block(array: Array) -> Array:
            return jax.lax.dynamic_slice_in_dim(array, start, BLOCK, axis=-1)

        own_boxes = jnp.stack([of_block(corner) for corner in corners], axis=-1)
        all_boxes = jnp.stack(corners, axis=-1)
        suppresses = overlap_more_than(iou_threshold, own_boxes, all_boxes)
        if padded_labels is not None:
            suppresses &= of_block(padded_labels)[..., :, None] == padded_labels[..., None, :]
        suppressors = _pack(suppresses)
        survivors = _survivors(of_block(alive), of_block(suppressors))
        suppressed = (suppressors & _pack(survivors[..., None])) != 0
        is_behind = jnp.arange(alive.shape[-1]) >= start + BLOCK
        alive &= ~(suppressed & is_behind)
        return block + 1, jax.lax.dynamic_update_slice_in_dim(alive, survivors, start, axis=-1)

    # Converters to other formats do not support a `fori_loop` with a computed end.
    start = (jnp.zeros((), num_blocks.dtype), candidate)
    _, alive = jax.lax.while_loop(lambda state: state[0] < num_blocks, settle, start)
    return alive[..., :num_boxes]


def _survivors(
    alive: Bool[Array, "*rows 32"], suppressors: UInt32[Array, "*rows 32"]
) -> Bool[Array, "*rows 32"]:
    """The boxes of a block that no earlier box of the block suppresses.

    Args:
      alive: the boxes that no earlier block suppresses.
      suppressors: for each box, one bit for each box of the block that overlaps it too much.
    """
    survivors = jnp.zeros(alive.shape[:-1], jnp.uint32)
    for place in range(BLOCK):  # so far `survivors` holds only boxes before this one
        survives = alive[..., place] & ((suppressors[..., place] & survivors) == 0)
        survivors |= survives.astype(jnp.uint32) << place
    return (survivors[..., None] >> np.arange(BLOCK, dtype=np.uint32) & 1).astype(bool)


def _pack(bits: Bool[Array, "*rows 32 m"]) -> UInt32[Array, "*rows m"]:
    """Packs 32 rows of bits into one row of integers."""
    words = (
        jnp.where(bits[..., place, :], jnp.uint32(1 << place), jnp.uint32(0))
        for place in range(BLOCK)
    )
    return functools.reduce(jnp.bitwise_or, words)


def score_boxes(
    offsets: Float[ArrayLike, "*batch boxes 4"],
    logits: Float[ArrayLike, "*batch boxes classes"],
    default_boxes: Float[ArrayLike, "boxes 4"],
) -> tuple[Float[Array, "*batch boxes 4"], Float[Array, "*batch classes-1 boxes"]]:
    """Decodes boxes, and computes the score of each class in them.

    Args:
      offsets: outputs of the network.
      logits: outputs of the network; class 0 is background.
      default_boxes: `cxcywh`.

    Returns:
      Boxes, `xyxy`, and scores in [0, 1], without the background.
    """
    scores = jax.nn.softmax(logits, axis=-1)[..., 1:].swapaxes(1, 2)
    return decode(offsets, default_boxes), scores


@jax.named_scope("suppression")
def best_detections(
    boxes: Float[ArrayLike, "*batch boxes 4"],
    scores: Float[ArrayLike, "*batch classes boxes"],
    settings: DetectionConfig = DetectionConfig(),
    few_together: bool = False,
) -> Detections:
    """Selects the detections of each image.

    Args:
      boxes: `xyxy`.
      scores: in [0, 1], without the background.
      settings: thresholds and how many boxes are kept.
      few_together: whether one suppression handles all classes if no image has more than `FEW`
        candidates. The results are the same; on a CPU it is faster.
    """
    boxes, scores = jnp.asarray(boxes), jnp.asarray(scores)
    scores = jnp.where(scores > settings.score_threshold, scores, 0.0)
    of_classes = functools.partial(_detections_of_classes, settings=settings)
    if not few_together:
        return of_classes(boxes, scores)
    of_each = jnp.sum(scores > 0, axis=-1)
    are_many = jnp.any(jnp.sum(of_each, axis=-1) > FEW)
    are_too_many = jnp.any(of_each > settings.boxes_per_class)
    of_few = functools.partial(_detections_of_few, settings=settings)
    return jax.lax.cond(are_many | are_too_many, of_classes, of_few, boxes, scores)


def _detections_of_classes(
    boxes: Float[Array, "*batch boxes 4"],
    scores: Float[Array, "*batch classes boxes"],
    settings: DetectionConfig,
) -> Detections:
    """The detections among the best boxes of each class; scores of 0 do not count."""
    # Each class separately: [..., classes, chosen boxes].
    boxes_of_class = min(settings.boxes_per_class, scores.shape[-1])
    best_scores, best = jax.lax.top_k(scores, boxes_of_class)
    best_boxes = jnp.take_along_axis(boxes[..., None, :, :], best[..., None], axis=-2)
    keep = non_maximum_suppression(best_boxes, best_scores, settings.nms_iou_threshold)

    # All classes together: [..., detections].
    kept_scores = best_scores * keep
    kept_scores = kept_scores.reshape(*kept_scores.shape[:-2], -1)
    best_boxes = best_boxes.reshape(*kept_scores.shape, 4)
    labels = jnp.arange(kept_scores.shape[-1]) // boxes_of_class + 1
    return _best_of_image(best_boxes, kept_scores, labels, settings)


def _detections_of_few(
    boxes: Float[Array, "*batch boxes 4"],
    scores: Float[Array, "*batch classes boxes"],
    settings: DetectionConfig,
) -> Detections:
    """The detections among the best boxes of an image; scores of 0 do not count."""
    num_boxes = scores.shape[-1]
    of_image = scores.reshape(*scores.shape[:-2], -1)
    best_scores, best = jax.lax.top_k(of_image, min(FEW, of_image.shape[-1]))
    best_boxes = jnp.take_along_axis(boxes, (best % num_boxes)[..., None], axis=-2)
    labels = best // num_boxes + 1
    threshold = settings.nms_iou_threshold
    keep = non_maximum_suppression(best_boxes, best_scores, threshold, labels)
    return _best_of_image(best_boxes, best_scores * keep, labels, settings)


def _best_of_image(
    boxes: Float[Array, "*batch boxes 4"],
    scores: Float[Array, "*batch boxes"],
    labels: Int[Array, "*batch boxes"] | Int[Array, " boxes"],
    settings: DetectionConfig,
) -> Detections:
    """The best of all classes; scores of 0 do not count."""
    num_final = min(settings.detections_per_image, scores.shape[-1])
    best_scores, best = jax.lax.top_k(scores, num_final)
    found = best_scores > 0
    best_boxes = jnp.take_along_axis(boxes, best[..., None], axis=-2)
    labels = jnp.broadcast_to(labels, scores.shape)
    best_labels = jnp.take_along_axis(labels, best, axis=-1).astype(jnp.int32)

    def padded(array: jax.Array, axis: int) -> jax.Array:
        missing = settings.detections_per_image - num_final
        return jnp.pad(array, [(0, missing if i == axis else 0) for i in range(array.ndim)])

    return Detections(
        boxes=padded(jnp.where(found[..., None], best_boxes, 0.0), best.ndim - 1),
        scores=padded(best_scores, best.ndim - 1),
        labels=padded(jnp.where(found, best_labels, 0), best.ndim - 1),
    )


def detect(
    offsets: Float[ArrayLike, "batch boxes 4"],
    logits: Float[ArrayLike, "batch boxes classes"],
    default_boxes: Float[ArrayLike, "boxes 4"],
    settings: DetectionConfig = DetectionConfig(),
) -> Detections:
    """Turns the network's output into detections (paper section 3.3, "Inference time").

    Args:
      offsets: outputs of the network.
      logits: outputs of the network; class 0 is background.
      default_boxes: `cxcywh`.
      settings: thresholds and how many boxes are kept.
    """
    return best_detections(*score_boxes(offsets, logits, default_boxes), settings)
