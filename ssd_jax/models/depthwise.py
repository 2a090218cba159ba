"""Depthwise convolutions: each channel is convolved separately."""

import functools
import itertools

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Float32

Pads = tuple[tuple[int, int], tuple[int, int]]  # before and after, along rows and columns


@functools.partial(jax.custom_vjp, nondiff_argnums=(2, 3))
def depthwise(
    x: Float[Array, "batch height width channels"],
    kernel: Float[Array, "side side channels"],
    stride: int,
    pads: Pads,
) -> Float32[Array, "batch new_height new_width channels"]:
    """A depthwise convolution as a sum of shifted products.

    The result is that of a grouped convolution, of which XLA's takes 4 to 40 times as long on CPUs.
    Only `x` and the kernel are kept for the gradients.

    Args:
      x: feature maps.
      kernel: its weights.
      stride: cells between two places of the kernel.
      pads: cells of zeros before and after, along rows and columns.
    """
    return _sum_of_products(_pad(x, pads), kernel, stride)


def plain_depthwise(x: jax.Array, kernel: jax.Array, stride: int, pads: Pads) -> jax.Array:
    """`depthwise` as one operation: a convolution with a group for each channel."""
    return jax.lax.conv_general_dilated(
        x,
        kernel[:, :, None],
        window_strides=(stride, stride),
        padding=pads,
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
        feature_group_count=x.shape[-1],
    )


def _pad(x: jax.Array, pads: Pads) -> jax.Array:
    return jnp.pad(x, ((0, 0), *pads, (0, 0)))


def windows(padded: jax.Array, side: int, stride: int) -> list[list[jax.Array]]:
    """The inputs of each cell of a kernel, by row and column."""
    rows, columns = (size - side + 1 for size in padded.shape[1:3])
    return [
        [padded[:, i : i + rows : stride, j : j + columns : stride] for j in range(side)]
        for i in range(side)
    ]


def _sum_of_products(padded: jax.Array, kernel: jax.Array, stride: int) -> jax.Array:
    total = jnp.float32(0)
    for row, weights in zip(windows(padded, len(kernel), stride), kernel, strict=True):
        for read, weight in zip(row, weights, strict=True):
            total += (read * weight).astype(jnp.float32)
    return total


def _depthwise_forward(
    x: jax.Array, kernel: jax.Array, stride: int, pads: Pads
) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
    return depthwise(x, kernel, stride, pads), (x, kernel)


def _depthwise_backward(
    stride: int,
    pads: Pads,
    residuals: tuple[jax.Array, jax.Array],
    gradient: jax.Array,
) -> tuple[jax.Array, jax.Array]:
    x, kernel = residuals
    side = len(kernel)
    # The gradient of x: the output gradient, with its cells `stride` apart, convolved with the
    # kernel turned by 180 degrees.
    around = []
    for size, new_size, (before, _) in zip(x.shape[1:3], gradient.shape[1:3], pads, strict=True):
        low = side - 1 - before
        around.append((low, size + before - (new_size - 1) * stride - 1, stride - 1))
    spread = jax.lax.pad(
        gradient.astype(x.dtype), jnp.array(0, x.dtype), [(0, 0, 0), *around, (0, 0, 0)]
    )
    of_x = _sum_of_products(spread, kernel[::-1, ::-1], 1).astype(x.dtype)

    by_rows = functools.partial(_depthwise_gradient_by_rows, side=side, stride=stride)
    by_sums = functools.partial(_depthwise_gradient_by_sums, side=side, stride=stride)
    of_kernel = jax.lax.platform_dependent(_pad(x, pads), gradient, cpu=by_rows, default=by_sums)
    return of_x, of_kernel.astype(kernel.dtype)


depthwise.defvjp(_depthwise_forward, _depthwise_backward)


def _depthwise_gradient_by_sums(
    padded: jax.Array, gradient: jax.Array, *, side: int, stride: int
) -> jax.Array:
    """The gradient of the kernel: the inputs of each cell times the output gradient, summed."""
    sums = [
        [jnp.sum(read * gradient, axis=(0, 1, 2)) for read in row]
        for row in windows(padded, side, stride)
    ]
    return jnp.stack([jnp.stack(row) for row in sums])


def _depthwise_gradient_by_rows(
    padded: jax.Array, gradient: jax.Array, *, side: int, stride: int
) -> jax.Array:
    """The same, one row of an image at a time: on a CPU XLA's sums take ten times as long."""
    batch, num_rows, num_columns, channels = gradient.shape
    width = padded.shape[2]

    def add(place: jax.Array, sums: tuple[jax.Array, ...]) -> tuple[jax.Array, ...]:
        image, row = place // num_rows, place % num_rows
        of_row = jax.lax.dynamic_slice(gradient, (image, row, 0, 0), (1, 1, num_columns, channels))
        read = jax.lax.dynamic_slice(
            padded, (image, row * stride, 0, 0), (1, side, width, channels)
        )
        reads = itertools.chain.from_iterable(windows(read, side, stride))
        return tuple(
            total + (window * of_row)[0, 0] for total, window in zip(sums, reads, strict=True)
        )

    zeros = (jnp.zeros((num_columns, channels), jnp.float32),) * side**2
    sums = jax.lax.fori_loop(0, batch * num_rows, add, zeros)
    totals = jnp.stack([jnp.sum(each, axis=0) for each in sums])
    return totals.reshape(side, side, channels)
