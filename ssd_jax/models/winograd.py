"""Convolutions of 3 × 3 by Winograd's algorithm, for CPUs: 16 products a tile in place of 36.

Winograd (1980), "Arithmetic Complexity of Computations", as Lavin and Gray (CVPR 2016) apply it:
F(2 × 2, 3 × 3). It adds and halves before it multiplies, and rounds as little as the plain
algorithm.
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

TILE = 2  # cells along a side of the outputs that are computed together
TILES = 400  # at a time: what is computed between stays in the caches

Pads = tuple[tuple[int, int], tuple[int, int]]


def winograd(
    x: Float[Array, "batch height width channels"],
    kernel: Float[Array, "3 3 channels new_channels"],
    pads: Pads,
) -> Float[Array, "batch new_height new_width new_channels"]:
    """A convolution of 3 × 3 with stride 1, some rows of tiles of an image, or images, at a time.

    Args:
      x: feature maps.
      kernel: its weights.
      pads: cells of zeros before and after, along rows and columns.
    """
    batch, *size, channels = x.shape
    height, width = (
        side + before + after - 2 for side, (before, after) in zip(size, pads, strict=True)
    )
    tile_rows, tile_columns = -(-height // TILE), -(-width // TILE)
    images, rows = _together(batch, tile_rows, tile_columns)
    bands = -(-tile_rows // rows)
    needed = (bands * rows * TILE + 2, tile_columns * TILE + 2)
    around = [
        (before, total - side - before)
        for total, side, (before, _) in zip(needed, size, pads, strict=True)
    ]
    padded = jnp.pad(x, ((0, 0), *around, (0, 0)))
    weights = [_of_kernel(row) for row in _of_kernel(kernel)]

    def place(step: jax.Array | int) -> tuple[jax.Array | int, ...]:
        return step // bands * images, step % bands * rows * TILE, 0, 0

    def band(step: jax.Array | int) -> jax.Array:
        shape = (images, rows * TILE + 2, needed[1], channels)
        return jax.lax.dynamic_slice(padded, place(step), shape)

    def convolve_next(
        step: jax.Array, state: tuple[jax.Array, jax.Array]
    ) -> tuple[jax.Array, jax.Array]:
        outputs, read = state
        outputs = jax.lax.dynamic_update_slice(outputs, _convolve(read, weights), place(step))
        # The next is read here: where it is used, XLA would read it anew for each of 16 sums.
        return outputs, band(step + 1)

    steps = batch // images * bands
    if steps == 1:
        return _convolve(padded, weights)[:, :height, :width]
    shape = (batch, bands * rows * TILE, tile_columns * TILE, kernel.shape[-1])
    start = jnp.zeros(shape, x.dtype), band(0)
    outputs, _ = jax.lax.fori_loop(0, steps, convolve_next, start)
    return outputs[:, :height, :width]


def _together(batch: int, tile_rows: int, tile_columns: int) -> tuple[int, int]:
    """How many images, and how many of their rows of tiles, are computed at a time."""
    tiles = tile_rows * tile_columns
    if tiles <= TILES:
        return max(
            n for n in range(1, batch + 1) if batch % n == 0 and n * tiles <= TILES
        ), tile_rows
    return 1, -(-tile_rows // -(-tiles // TILES))


def _convolve(padded: jax.Array, weights: Sequence[Sequence[jax.Array]]) -> jax.Array:
    images, channels = len(padded), padded.shape[-1]
    rows, columns = ((side - 2) // TILE for side in padded.shape[1:3])
    tiles = [_of_map(row, axis=2) for row in _of_map(padded, axis=1)]
    products = [
        [tile.reshape(-1, channels) @ weight for tile, weight in zip(*pair, strict=True)]
        for pair in zip(tiles, weights, strict=True)
    ]
    by_column = [_of_products(column) for column in zip(*products, strict=True)]
    outputs = [
        [each.reshape(images, rows, columns, -1) for each in _of_products(row)]
        for row in zip(*by_column, strict=True)
    ]
    together = jnp.stack([jnp.stack(row, axis=3) for row in outputs], axis=2)
    return together.reshape(images, rows * TILE, columns * TILE, -1)


def _of_map(x: jax.Array, axis: int) -> tuple[jax.Array, ...]:
    """Along an axis, for each tile: sums of the four cells that it reads."""
    last = x.shape[axis] - 3
    a, b, c, d = (jax.lax.slice_in_dim(x, first, first + last, TILE, axis) for first in range(4))
    return a - c, b + c, c - b, b - d


def _of_kernel(kernel: jax.Array) -> tuple[jax.Array, ...]:
    """Along the first axis, of three weights four factors."""
    a, b, c = kernel
    return a, (a + b + c) / 2, (a - b + c) / 2, c


def _of_products(products: Sequence[jax.Array]) -> tuple[jax.Array, jax.Array]:
    """Of four products the two outputs of a tile."""
    a, b, c, d = products
    return a + b + c, b - c - d
