"""Measures how well default boxes fit objects."""

import functools
from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from ssd_jax.config.schema import LossConfig
from ssd_jax.detection.default_boxes import Tiling, default_boxes
from ssd_jax.detection.exact_iou import ONE, fixed_point_iou
from ssd_jax.detection.matcher import lies_inside, match

OBJECTS_AT_ONCE = 256
# Recall of default boxes below which boxes in the shapes of the objects are worth a try. With a
# higher recall such boxes made short trainings worse (docs/benchmarks.md).
LOW_RECALL = 0.5


class Fit(NamedTuple):
    """The fit of default boxes to some objects.

    Attributes:
      sides: `[objects]` square root of the area, in pixels of the input.
      best_iou: `[objects]` IoU with the best default box.
      matched: `[objects]` number of default boxes that are matched to the object.
      iou_threshold: IoU from which a default box is matched to an object.
    """

    sides: np.ndarray
    best_iou: np.ndarray
    matched: np.ndarray
    iou_threshold: float

    def recall(self) -> float:
        """The share of objects whose IoU with a default box is `iou_threshold` or more."""
        return float((self.best_iou >= self.iou_threshold).mean())


def measure(
    images: Sequence[np.ndarray], tiling: Tiling, settings: LossConfig = LossConfig()
) -> Fit:
    """Measures how well a tiling fits the objects of some images.

    Args:
      images: for each image, `[objects, 4] xyxy` in [0, 1].
      tiling: the default boxes.
      settings: the matching threshold, and whether boxes that reach beyond the image count.
    """
    boxes = default_boxes(tiling)
    most = max(map(len, images))
    best_iou, matched = [], []
    for objects in images:
        padded = np.zeros((most, 4), np.float32)
        padded[: len(objects)] = objects
        fitted = _fit_image(padded, boxes, settings=settings)
        for collected, values in zip((best_iou, matched), fitted, strict=True):
            collected.append(np.asarray(values)[: len(objects)])
    sizes = np.concatenate([objects[:, 2:] - objects[:, :2] for objects in images])
    sides = np.sqrt(sizes.prod(axis=1)) * tiling.image_size
    threshold = settings.match_iou_threshold
    return Fit(sides, np.concatenate(best_iou), np.concatenate(matched), threshold)


@functools.partial(jax.jit, static_argnames="settings")
def _fit_image(
    objects: jax.Array, boxes: jax.Array, settings: LossConfig
) -> tuple[jax.Array, jax.Array]:
    """Best IoU and number of matched default boxes `[boxes, 4]` of padded objects `[objects, 4]`.

    Compiled once for all tilings with the same number of boxes.
    """
    iou = fixed_point_iou(objects, boxes)
    iou = jnp.where((objects[:, 2] > objects[:, 0])[:, None], iou, 0)
    if not settings.boundary_boxes:
        iou = jnp.where(lies_inside(boxes), iou, 0)
    owners = match(iou, settings.match_iou_threshold)
    matched = jnp.sum(owners == jnp.arange(len(objects))[:, None], axis=1)
    return jnp.max(iou, axis=1) / ONE, matched


def default_box_recall(
    objects: np.ndarray, tiling: Tiling, settings: LossConfig = LossConfig()
) -> float:
    """The share of objects whose IoU with a default box reaches the matching threshold.

    Much faster than `measure`, which matches image by image.

    Args:
      objects: `[objects, 4] xyxy` in [0, 1], one or more.
      tiling: the default boxes.
      settings: see `measure`.
    """
    boxes = default_boxes(tiling)
    best = []
    for start in range(0, len(objects), OBJECTS_AT_ONCE):
        some = objects[start : start + OBJECTS_AT_ONCE]
        padded = np.zeros((OBJECTS_AT_ONCE, 4), np.float32)
        padded[: len(some)] = some
        best.append(np.asarray(_best_iou(padded, boxes, settings=settings))[: len(some)])
    return float((np.concatenate(best) >= settings.match_iou_threshold).mean())


@functools.partial(jax.jit, static_argnames="settings")
def _best_iou(objects: jax.Array, boxes: jax.Array, settings: LossConfig) -> jax.Array:
    """`[objects]`: the IoU with the default box that fits best."""
    iou = fixed_point_iou(objects, boxes)
    if not settings.boundary_boxes:
        iou = jnp.where(lies_inside(boxes), iou, 0)
    return jnp.max(iou, axis=1) / ONE
