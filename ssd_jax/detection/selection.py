"""Selects the largest of many numbers without sorting, which is slow on accelerators."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from ssd_jax.detection.boxes import ArrayLike


def kth_largest(
    values: Float[ArrayLike, "*rows columns"], k: Int[ArrayLike, "*rows"] | Int[ArrayLike, ""] | int
) -> Float[Array, "*rows"]:
    """The k-th largest value of each row; k may differ between rows and is 1 or more.

    Floats that are not negative are ordered like their bit patterns read as integers, so the
    result is built from the highest bits, two at a time: 16 counting passes, exact.

    Args:
      values: `[..., columns] float32`; negative ones count as smaller than everything.
      k: `[...] int32`, or one for all rows.

    Returns:
      `[...] float32`; 0 where fewer than k values are not negative.
    """
    # Three counts of up to 1,023 share an integer, so that one sum computes all three.
    columns = values.shape[-1]
    blocks = -(-columns // 1023)
    missing = -columns % blocks
    bits = jax.lax.bitcast_convert_type(values, jnp.int32)
    bits = jnp.pad(bits, [(0, 0)] * (bits.ndim - 1) + [(0, missing)])  # zeros count nowhere
    bits = bits.reshape(*bits.shape[:-1], blocks, (columns + missing) // blocks)

    def find_digit(position, digits, found):
        """Sets one digit of the result to the largest value that k numbers still reach."""
        packed = 0
        for i, digit in enumerate(digits):
            reached = bits >= (found | (digit << position))[..., None, None]
            packed += jnp.where(reached, 1 << 10 * i, 0)
        packed = jnp.sum(packed, axis=-1)
        counts = [jnp.sum(packed >> 10 * i & 1023, axis=-1) for i in range(len(digits))]
        return found | (sum((count >= k).astype(jnp.int32) for count in counts) << position)

    # The top bit is the sign, so the first digit has one bit. The others are in a loop, which
    # compiles faster.
    found = find_digit(30, (1,), jnp.zeros(bits.shape[:-2], jnp.int32))
    found = jax.lax.fori_loop(
        1, 16, lambda place, found: find_digit(30 - 2 * place, (1, 2, 3), found), found
    )
    return jax.lax.bitcast_convert_type(found, jnp.float32)


def largest(
    values: Float[ArrayLike, "*rows columns"], k: Int[ArrayLike, "*rows"] | Int[ArrayLike, ""] | int
) -> Bool[Array, "*rows columns"]:
    """Marks the k largest of each row; among equal ones those with the lower index.

    Args:
      values: `[..., columns] float32`, not negative where they may be chosen.
      k: `[...] int32`, or one for all rows; 1 or more.

    Returns:
      `[..., columns] bool`.
    """
    values = jnp.asarray(values)
    smallest = kth_largest(values, k)[..., None]
    above, tied = values > smallest, values == smallest
    still_wanted = jnp.expand_dims(k, -1) - jnp.sum(above, axis=-1, keepdims=True)
    return above | (tied & (jnp.cumsum(tied, axis=-1) <= still_wanted))
