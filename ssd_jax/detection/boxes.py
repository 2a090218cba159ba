"""Boxes as arrays whose last axis holds four numbers.

`xyxy` is (x_min, y_min, x_max, y_max) and `cxcywh` is (x_centre, y_centre, width, height);
both are float32 fractions of the image, so that [0, 1] spans it.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

# Functions take arrays of JAX or NumPy, and return arrays of JAX.
ArrayLike = jax.Array | np.ndarray


def cxcywh_to_xyxy(boxes: Float[ArrayLike, "*shape 4"]) -> Float[Array, "*shape 4"]:
    """Converts `[..., 4] cxcywh` to `[..., 4] xyxy`."""
    centre, size = boxes[..., :2], boxes[..., 2:]
    return jnp.concatenate([centre - size / 2, centre + size / 2], axis=-1)


def xyxy_to_cxcywh(boxes: Float[ArrayLike, "*shape 4"]) -> Float[Array, "*shape 4"]:
    """Converts `[..., 4] xyxy` to `[..., 4] cxcywh`."""
    top_left, bottom_right = boxes[..., :2], boxes[..., 2:]
    return jnp.concatenate([(top_left + bottom_right) / 2, bottom_right - top_left], axis=-1)


def mirrored(boxes: Float[ArrayLike, "*shape 4"]) -> Float[Array, "*shape 4"]:
    """Mirrors `[..., 4] xyxy` boxes together with the image: left becomes right."""
    x_min, y_min, x_max, y_max = jnp.moveaxis(boxes, -1, 0)
    return jnp.stack([1 - x_max, y_min, 1 - x_min, y_max], axis=-1)


def area(boxes: Float[ArrayLike, "*shape 4"]) -> Float[Array, "*shape"]:
    """Area of `[..., 4] xyxy` boxes as `[...]`; 0 where a maximum is below its minimum."""
    width_height = jnp.maximum(boxes[..., 2:] - boxes[..., :2], 0)
    return width_height[..., 0] * width_height[..., 1]


def overlap_more_than(
    threshold: float | Float[ArrayLike, ""],
    boxes_a: Float[ArrayLike, "*shape n 4"],
    boxes_b: Float[ArrayLike, "*shape m 4"],
) -> Bool[Array, "*shape n m"]:
    """Whether the IoU of each box of one set with each of another is more than a threshold.

    Args:
      threshold: 0 or more.
      boxes_a: `[..., n, 4] xyxy`.
      boxes_b: `[..., m, 4] xyxy`.

    Returns:
      `[..., n, m]`; False where both boxes are empty.
    """
    # One coordinate at a time: an intermediate [n, m, 2] would have a last axis of 2, which
    # accelerators pad to a full vector.
    a = [boxes_a[..., :, None, i] for i in range(4)]
    b = [boxes_b[..., None, :, i] for i in range(4)]
    width = jnp.maximum(jnp.minimum(a[2], b[2]) - jnp.maximum(a[0], b[0]), 0)
    height = jnp.maximum(jnp.minimum(a[3], b[3]) - jnp.maximum(a[1], b[1]), 0)
    intersection = width * height
    union = area(boxes_a)[..., :, None] + area(boxes_b)[..., None, :] - intersection
    # Not as a division, which would take half of the time of suppression on a GPU.
    return intersection > threshold * union
