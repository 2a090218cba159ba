"""Fixed-point IoU, exact enough that every device ranks overlaps in the same order.

float32 rounds an IoU by 6e-8, but default boxes of one scale differ less in area: 0.0707 · 0.1414
from 0.1 · 0.1 by 1e-8. The best match of an object would then depend on rounding, hence on the
device and on the operations that its compiler fuses. Here a number is a pair `(high, low)` of
float32, and its value is their exact sum (Dekker 1971): about 40 bits without float64, which TPUs
lack. Where a product must be exact, its factors have 12 bits, so that the result is the same
whether or not the compiler contracts it with a sum.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int32

from ssd_jax.detection.boxes import ArrayLike

# IoU is counted in units of 2⁻³⁰: this is 1.
ONE = 1 << 30

Pair = tuple[jax.Array, jax.Array]


def _fast_two_sum(a: jax.Array, b: jax.Array) -> Pair:
    """a + b without error, for |a| ≥ |b|."""
    total = a + b
    return total, b - (total - a)


def _two_sum(a: jax.Array, b: jax.Array) -> Pair:
    """a + b without error."""
    total = a + b
    b_part = total - a
    return total, (a - (total - b_part)) + (b - b_part)


def _split(a: jax.Array) -> Pair:
    """a as the sum of two numbers with 12 bits each."""
    bits = jax.lax.bitcast_convert_type(a, jnp.uint32)
    high = jax.lax.bitcast_convert_type(bits & jnp.uint32(0xFFFFF000), jnp.float32)
    return high, a - high


def _two_product(a: jax.Array, b: jax.Array) -> Pair:
    """a · b with a relative error of 2⁻³⁶."""
    a_high, a_low = _split(a)
    b_high, b_low = _split(b)
    return _fast_two_sum(a_high * b_high, a_high * b_low + a_low * b_high + a_low * b_low)


def _add(a: Pair, b: Pair) -> Pair:
    high, error = _two_sum(a[0], b[0])
    return _fast_two_sum(high, error + a[1] + b[1])


def _negative(a: Pair) -> Pair:
    return -a[0], -a[1]


def _multiply(a: Pair, b: Pair) -> Pair:
    high, error = _two_product(a[0], b[0])
    return _fast_two_sum(high, error + a[0] * b[1] + a[1] * b[0])


def _minimum(a: Pair, b: Pair) -> Pair:
    a_is_less = (a[0] < b[0]) | ((a[0] == b[0]) & (a[1] < b[1]))
    return jnp.where(a_is_less, a[0], b[0]), jnp.where(a_is_less, a[1], b[1])


def fixed_point_iou(
    boxes: Float[ArrayLike, "objects 4"], default_boxes: Float[ArrayLike, "boxes 4"]
) -> Int32[Array, "objects boxes"]:
    """IoU of every object with every default box, in units of 2⁻³⁰.

    Args:
      boxes: `[objects, 4] xyxy` float32.
      default_boxes: `[boxes, 4] cxcywh` float32.

    Returns:
      `[objects, boxes] int32`: the nearest whole number to 2³⁰ · IoU; 0 for an empty object.
    """
    boxes, default_boxes = jnp.asarray(boxes), jnp.asarray(default_boxes)
    overlaps, object_sides, default_sides = [], [], []
    for axis in (0, 1):
        low, high = boxes[:, None, axis], boxes[:, None, 2 + axis]
        centre, size = default_boxes[None, :, axis], default_boxes[None, :, 2 + axis]
        default_low, default_high = _two_sum(centre, -size / 2), _two_sum(centre, size / 2)
        # The shortest of four distances. Where an object is inside a default box, this is the
        # object's side, which keeps true ties between all default boxes of one size around it.
        object_side = _two_sum(high, -low)
        default_side = (size, jnp.zeros_like(size))
        overlap = _minimum(object_side, default_side)
        overlap = _minimum(overlap, _add(default_high, (-low, jnp.zeros_like(low))))
        overlap = _minimum(overlap, _add((high, jnp.zeros_like(high)), _negative(default_low)))
        overlaps.append(overlap)
        object_sides.append(object_side)
        default_sides.append(default_side)

    intersection = _multiply(*overlaps)
    areas = _add(_multiply(*object_sides), _multiply(*default_sides))
    union = _add(areas, _negative(intersection))
    overlapping = (overlaps[0][0] > 0) & (overlaps[1][0] > 0)

    # Division: a float32 quotient and its remainder.
    divisor = jnp.where(overlapping, union[0], 1)
    quotient = intersection[0] / divisor
    product = _two_product(quotient, divisor)
    rest = (intersection[0] - product[0]) - product[1] + (intersection[1] - quotient * union[1])
    units = quotient * ONE
    whole = jnp.floor(units)
    fraction = (units - whole) + rest / divisor * ONE
    iou = whole.astype(jnp.int32) + jnp.round(fraction).astype(jnp.int32)
    return jnp.where(overlapping, iou, 0)
