"""Convolutions of 3 × 3 by Winograd's algorithm, for CPUs: 16 products a tile instead of 36.

Winograd (1980), "Arithmetic Complexity of Computations", as Lavin and Gray (CVPR 2016) apply it:
F(2 × 2, 3 × 3). It adds and halves before it multiplies; rounding errors are as small as those of
the plain algorithm.
"""

from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

TILE = 2  # cells along a side of the outputs that are computed together
TILES = 400  # computed at a time: intermediate results stay in the caches

Pads = tuple[tuple[int, int], tuple[int, int]]
Step = jax.Array | int
_Sums = tuple[list[jax.Array], tuple[jax.Array, jax.Array]]  # sums, and the inputs of the next band


class _Bands(NamedTuple):
    """The tiles that are computed at a time: some rows of one image, or all of some images.

    Attributes:
      images: images of a band.
      rows: rows of tiles of a band.
      columns: columns of tiles.
      of_image: bands of an image.
      steps: bands of all images.
    """

    images: int
    rows: int
    columns: int
    of_image: int
    steps: int

    def place(self, step: Step) -> tuple[Step, Step, int, int]:
        """The indices in feature maps where a band begins."""
        rows = step % self.of_image * self.rows * TILE
        return step // self.of_image * self.images, rows, 0, 0

    def cut(self, array: jax.Array, step: Step, more: int) -> jax.Array:
        """Cuts a band out of padded feature maps, with `more` rows than its outputs have."""
        shape = (self.images, self.rows * TILE + more, *array.shape[2:])
        return jax.lax.dynamic_slice(array, self.place(step), shape)

    def pad(self, x: jax.Array, pads: Pads) -> jax.Array:
        """Pads feature maps with zeros, so that all tiles have their inputs."""
        needed = (self.of_image * self.rows * TILE + 2, self.columns * TILE + 2)
        around = [
            (before, total - side - before)
            for total, side, (before, _) in zip(needed, x.shape[1:3], pads, strict=True)
        ]
        return jnp.pad(x, ((0, 0), *around, (0, 0)))


def _bands(batch: int, height: int, width: int) -> _Bands:
    """The bands of a batch whose outputs have `height` × `width` cells."""
    rows, columns = -(-height // TILE), -(-width // TILE)
    tiles = rows * columns
    if tiles <= TILES:
        fitting = (n for n in range(1, batch + 1) if batch % n == 0 and n * tiles <= TILES)
        images = max(fitting)
        return _Bands(images, rows, columns, 1, batch // images)
    rows_of_band = -(-rows // -(-tiles // TILES))
    of_image = -(-rows // rows_of_band)
    return _Bands(1, rows_of_band, columns, of_image, batch * of_image)


def winograd(
    x: Float[Array, "batch height width channels"],
    kernel: Float[Array, "3 3 channels new_channels"],
    pads: Pads,
) -> Float[Array, "batch new_height new_width new_channels"]:
    """A convolution of 3 × 3 with stride 1.

    Args:
      x: feature maps.
      kernel: its weights.
      pads: cells of zeros before and after, along rows and columns.
    """
    height, width = (
        side + before + after - 2 for side, (before, after) in zip(x.shape[1:3], pads, strict=True)
    )
    bands = _bands(len(x), height, width)
    padded = bands.pad(x, pads)
    # The condition is never true. Without it XLA transforms the kernels of all layers first, and
    # keeps them in memory.
    kernel = jnp.where(x[0, 0, 0, 0] < -jnp.inf, 0, kernel)
    weights = [_of_kernel(row) for row in _of_kernel(kernel)]

    def convolve_next(
        step: jax.Array, state: tuple[jax.Array, jax.Array]
    ) -> tuple[jax.Array, jax.Array]:
        outputs, read = state
        of_band = _convolve(read, weights)
        outputs = jax.lax.dynamic_update_slice(outputs, of_band, bands.place(step))
        # The next band is read here. Read where it is used, XLA would read it for each of 16 sums.
        return outputs, bands.cut(padded, step + 1, 2)

    if bands.steps == 1:
        return _convolve(padded, weights)[:, :height, :width]
    shape = (len(x), padded.shape[1] - 2, padded.shape[2] - 2, kernel.shape[-1])
    # The loop overwrites all of it. Zeros would be one array for all layers of this shape, which
    # XLA keeps in memory from the first to the last.
    unwritten = jnp.broadcast_to(x[0, 0, 0, 0], shape)
    start = unwritten, bands.cut(padded, 0, 2)
    outputs, _ = jax.lax.fori_loop(0, bands.steps, convolve_next, start)
    return outputs[:, :height, :width]


def kernel_gradient(
    x: Float[Array, "batch height width channels"],
    gradient: Float[Array, "batch new_height new_width new_channels"],
    pads: Pads,
) -> Float[Array, "3 3 channels new_channels"]:
    """The gradient of the kernel of `winograd`.

    Args:
      x: the input of the convolution.
      gradient: of its outputs.
      pads: of the convolution.
    """
    batch, height, width, new_channels = gradient.shape
    channels = x.shape[-1]
    bands = _bands(batch, height, width)
    padded = bands.pad(x, pads)
    below, right = padded.shape[1] - 2 - height, padded.shape[2] - 2 - width
    gradient = jnp.pad(gradient, ((0, 0), (0, below), (0, right), (0, 0)))

    def both(step: Step) -> tuple[jax.Array, jax.Array]:
        return bands.cut(padded, step, 2), bands.cut(gradient, step, 0)

    def add(step: jax.Array, state: _Sums) -> _Sums:
        sums, (read, of_outputs) = state
        tiles = [each for row in _of_map(read, axis=1) for each in _of_map(row, axis=2)]
        others = [
            each for row in _of_outputs(of_outputs, axis=1) for each in _of_outputs(row, axis=2)
        ]
        sums = [
            total + tile.reshape(-1, channels).T @ other.reshape(-1, new_channels)
            for total, tile, other in zip(sums, tiles, others, strict=True)
        ]
        return sums, both(step + 1)

    start = [jnp.zeros((channels, new_channels), x.dtype) for _ in range(16)]
    sums, _ = jax.lax.fori_loop(0, bands.steps, add, (start, both(0)))
    columns = [_to_kernel(sums[column::4]) for column in range(4)]
    return _to_kernel(columns).swapaxes(0, 1)


def _convolve(padded: jax.Array, weights: Sequence[Sequence[jax.Array]]) -> jax.Array:
    images, channels = len(padded), padded.shape[-1]
    rows, columns = ((side - 2) // TILE for side in padded.shape[1:3])
    tiles = [_of_map(row, axis=2) for row in _of_map(padded, axis=1)]
    products = [
        [tile.reshape(-1, channels) @ weight for tile, weight in zip(*pair, strict=True)]
        for pair in zip(tiles, weights, strict=True)
    ]
    by_column = [_to_outputs(column) for column in zip(*products, strict=True)]
    outputs = [
        [each.reshape(images, rows, columns, -1) for each in _to_outputs(row)]
        for row in zip(*by_column, strict=True)
    ]
    together = jnp.stack([jnp.stack(row, axis=3) for row in outputs], axis=2)
    return together.reshape(images, rows * TILE, columns * TILE, -1)


def _of_map(x: jax.Array, axis: int) -> tuple[jax.Array, ...]:
    """Along an axis, for each tile: four sums of the four cells that it reads."""
    last = x.shape[axis] - 3
    a, b, c, d = (jax.lax.slice_in_dim(x, first, first + last, TILE, axis) for first in range(4))
    return a - c, b + c, c - b, b - d


def _of_kernel(kernel: jax.Array) -> tuple[jax.Array, ...]:
    """Four factors from three weights, along the first axis."""
    a, b, c = kernel
    return a, (a + b + c) / 2, (a - b + c) / 2, c


def _to_outputs(products: Sequence[jax.Array]) -> tuple[jax.Array, jax.Array]:
    """The two outputs of a tile from four products."""
    a, b, c, d = products
    return a + b + c, b - c - d


def _of_outputs(gradient: jax.Array, axis: int) -> tuple[jax.Array, ...]:
    """Along an axis, for each tile: the gradients of four products from those of its outputs."""
    size = gradient.shape[axis]
    a, b = (jax.lax.slice_in_dim(gradient, first, size, TILE, axis) for first in range(2))
    return a, a + b, a - b, -b


def _to_kernel(factors: Sequence[jax.Array]) -> jax.Array:
    """The gradients of three weights from those of their four factors."""
    a, b, c, d = factors
    return jnp.stack([a + (b + c) / 2, (b - c) / 2, (b + c) / 2 + d])
