"""Converts boxes to regression targets and back (paper equation 2; Caffe's CENTER_SIZE coding)."""

import jax.numpy as jnp
from jaxtyping import Array, Float

from ssd_jax.detection.boxes import ArrayLike, cxcywh_to_xyxy, xyxy_to_cxcywh

# Caffe divides centre offsets by 0.1 and log sizes by 0.2, so that both have about unit variance.
CENTRE_VARIANCE = 0.1
SIZE_VARIANCE = 0.2


def encode(
    boxes: Float[ArrayLike, "*shape boxes 4"], default_boxes: Float[ArrayLike, "boxes 4"]
) -> Float[Array, "*shape boxes 4"]:
    """Offsets that turn default boxes into the given boxes.

    Args:
      boxes: `[..., boxes, 4] xyxy`.
      default_boxes: `[boxes, 4] cxcywh`.

    Returns:
      `[..., boxes, 4]`: ((x - dx) / dw / 0.1, (y - dy) / dh / 0.1, ln(w / dw) / 0.2,
      ln(h / dh) / 0.2). Finite also for empty boxes.
    """
    boxes = xyxy_to_cxcywh(boxes)
    centre = (boxes[..., :2] - default_boxes[..., :2]) / default_boxes[..., 2:]
    size = jnp.maximum(boxes[..., 2:], 1e-8) / default_boxes[..., 2:]
    return jnp.concatenate([centre / CENTRE_VARIANCE, jnp.log(size) / SIZE_VARIANCE], axis=-1)


def decode(
    offsets: Float[ArrayLike, "*shape boxes 4"], default_boxes: Float[ArrayLike, "boxes 4"]
) -> Float[Array, "*shape boxes 4"]:
    """Applies offsets to default boxes; the inverse of `encode`.

    Args:
      offsets: `[..., boxes, 4]`.
      default_boxes: `[boxes, 4] cxcywh`.

    Returns:
      `[..., boxes, 4] xyxy`, not clipped to the image.
    """
    centre = default_boxes[..., :2] + offsets[..., :2] * CENTRE_VARIANCE * default_boxes[..., 2:]
    size = default_boxes[..., 2:] * jnp.exp(offsets[..., 2:] * SIZE_VARIANCE)
    return cxcywh_to_xyxy(jnp.concatenate([centre, size], axis=-1))
