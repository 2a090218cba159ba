"""The largest of many numbers without sorting them, which accelerators do slowly."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from ssd_jax.detection.boxes import ArrayLike


def kth_largest(
    values: Float[ArrayLike, "*rows columns"], k: Int[ArrayLike, "*rows"] | Int[ArrayLike, ""] | int
) -> Float[Array, "*rows"]:
    """The k-th largest of each row, for a k that may differ from row to row and is 1 or more.

    Floats that are not negative are ordered like their bit patterns read as integers, so the
    answer is built from the top, two bits at a time: 16 counting passes, exact.

    Args:
      values: `[..., columns] float32`; negative ones count as smaller than everything.
      k: `[...] int32`, or one for all rows.

    Returns:
      `[...] float32`; 0 where fewer than k values are not negative.
    """
    # Three counts of up to 1,023 share an integer, so that one sum makes all of them.
    columns = values.shape[-1]
    blocks = -(-columns // 1023)
    missing = -columns % blocks
    bits = jax.lax.bitcast_convert_type(values, jnp.int32)
    bits = jnp.pad(bits, [(0, 0)] * (bits.ndim - 1) + [(0, missing)])  # zeros count nowhere
    bits = bits.reshape(*bits.shape[:-1], blocks, (columns + missing) // blocks)

    def find_digit(position, digits, found):
        """Gives a digit of the number the largest value with which k numbers still reach it."""
        packed = 0
        for i, digit in enumerate(digits):
            reached = bits >= (found | (digit << position))[..., None, None]
            packed += jnp.where(reached, 1 << 10 * i, 0)
        packed = jnp.sum(packed, axis=-1)
        counts = [jnp.sum(packed >> 10 * i & 1023, axis=-1) for i in range(len(digits))]
        return found | (sum((count >= k).astype(jnp.int32) for count in counts) << position)

    # The top bit is the sign, so the first digit has one bit. A loop, for it is compiled sooner.
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
