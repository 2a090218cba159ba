"""Losses of boxes by their overlap: GIoU (Rezatofighi et al. 2019), CIoU (Zheng et al. 2020)."""

import math

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from ssd_jax.detection.boxes import ArrayLike, area

# Minimum sides and areas, so that a box without area has finite gradients.
MIN_SIDE = 1e-6
MIN_AREA = 1e-12


def giou_loss(
    boxes: Float[ArrayLike, "*shape 4"], targets: Float[ArrayLike, "*shape 4"]
) -> Float[Array, "*shape"]:
    """1 - GIoU: from 0, where two boxes are the same, to 2, where they are far apart.

    GIoU = IoU - (H - U) / H, where U is the area of the union and H that of the hull, the smallest
    box around both.

    Args:
      boxes: `[..., 4] xyxy`.
      targets: `[..., 4] xyxy`.
    """
    iou, union = _iou(boxes, targets)
    hull = area(_hull(boxes, targets))
    return 1 - iou + _ratio(hull - union, hull)


def ciou_loss(
    boxes: Float[ArrayLike, "*shape 4"], targets: Float[ArrayLike, "*shape 4"]
) -> Float[Array, "*shape"]:
    """1 - CIoU: 1 - IoU + d² / c² + αv, where d is the distance of the centres.

    c is the diagonal of the hull, the smallest box around both, v = 4/π² · (arctan(w/h) of one
    box less that of the other)² and α = v / (1 - IoU + v), through which no gradient goes.

    Args:
      boxes: `[..., 4] xyxy`, fractions of a square input: aspect ratios are those of its pixels.
      targets: `[..., 4] xyxy`, likewise.
    """
    iou, _ = _iou(boxes, targets)
    centre_distance = (boxes[..., :2] + boxes[..., 2:] - targets[..., :2] - targets[..., 2:]) / 2
    hull = _hull(boxes, targets)
    squares = (jnp.sum(of**2, axis=-1) for of in (centre_distance, hull[..., 2:] - hull[..., :2]))
    v = 4 / math.pi**2 * (_diagonal_angle(boxes) - _diagonal_angle(targets)) ** 2
    alpha = jax.lax.stop_gradient(_ratio(v, 1 - iou + v))
    return 1 - iou + _ratio(*squares) + alpha * v


def _iou(
    boxes: Float[ArrayLike, "*shape 4"], targets: Float[ArrayLike, "*shape 4"]
) -> tuple[Float[Array, "*shape"], Float[Array, "*shape"]]:
    """IoU, and the area of the union."""
    intersection = area(
        jnp.concatenate(
            [
                jnp.maximum(boxes[..., :2], targets[..., :2]),
                jnp.minimum(boxes[..., 2:], targets[..., 2:]),
            ],
            axis=-1,
        )
    )
    union = area(boxes) + area(targets) - intersection
    return _ratio(intersection, union), union


def _hull(
    boxes: Float[ArrayLike, "*shape 4"], targets: Float[ArrayLike, "*shape 4"]
) -> Float[Array, "*shape 4"]:
    """The smallest box around two."""
    low = jnp.minimum(boxes[..., :2], targets[..., :2])
    return jnp.concatenate([low, jnp.maximum(boxes[..., 2:], targets[..., 2:])], axis=-1)


def _diagonal_angle(boxes: Float[ArrayLike, "*shape 4"]) -> Float[Array, "*shape"]:
    """arctan(w/h)."""
    width_height = jnp.maximum(boxes[..., 2:] - boxes[..., :2], MIN_SIDE)
    return jnp.arctan2(width_height[..., 0], width_height[..., 1])


def _ratio(part: jax.Array, whole: jax.Array) -> jax.Array:
    return part / jnp.maximum(whole, MIN_AREA)
