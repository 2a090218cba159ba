"""Convolutions as functions of arrays, with gradients that are fast on CPUs too."""

import functools
import itertools
import math
from typing import NamedTuple, cast

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, Float32

Sides = tuple[int, int]  # along rows and columns
LAYOUT = ("NHWC", "HWIO", "NHWC")
# From so many channels, in times out, on a CPU the gradient of a kernel is made in pieces of maps
# that have so many numbers: of larger ones XLA takes up to four times as long.
MANY_CHANNELS = 1024
PIECE = 3_000_000


class Geometry(NamedTuple):
    """How a kernel moves over a map, and how exactly products are computed.

    Attributes:
      strides: cells between two places of the kernel.
      pads: cells of zeros before and after.
      dilation: cells between two cells of the kernel.
      products: see `jax.default_matmul_precision`. Gradients are traced where it is no longer set.
    """

    strides: Sides
    pads: tuple[Sides, Sides]
    dilation: Sides
    products: str | None


def convolve(
    x: Float[Array, "batch height width channels"], *convolutions: nnx.Conv
) -> Float[Array, "batch new_height new_width new_channels"]:
    """Applies several convolutions to one feature map and concatenates their outputs.

    They must differ in nothing but their weights, and are computed as one, which reads the map
    once. In bfloat16 channels are filled up to a multiple of 8, as the matrix units of GPUs want.
    """
    first = convolutions[0]
    kernel = jnp.concatenate([jnp.asarray(each.kernel[...]) for each in convolutions], axis=-1)
    channels_in, channels_out = kernel.shape[2:]
    multiple = 8 if first.dtype == jnp.bfloat16 else 1
    fill_in, fill_out = -channels_in % multiple, -channels_out % multiple
    outputs: jax.Array = convolution(
        jnp.pad(x.astype(first.dtype), [(0, 0)] * 3 + [(0, fill_in)]),
        jnp.pad(kernel.astype(first.dtype), [(0, 0)] * 2 + [(0, fill_in), (0, fill_out)]),
        _geometry(first, x.shape[1:3]),
    )
    biases = [each.bias[...] for each in convolutions if each.bias is not None]
    if biases:
        bias = jnp.concatenate(biases)
        outputs += jnp.pad(bias.astype(first.dtype), (0, fill_out))
    return outputs[..., :channels_out]


def _geometry(layer: nnx.Conv, size: tuple[int, ...]) -> Geometry:
    # As `ConvBlock` and the heads give them.
    strides, dilation = cast(Sides, layer.strides), cast(Sides, layer.kernel_dilation)
    kernel_size, padding = cast(Sides, layer.kernel_size), cast(int | str, layer.padding)
    if isinstance(padding, str):
        reach = [(side - 1) * gap + 1 for side, gap in zip(kernel_size, dilation, strict=True)]
        pads = jax.lax.padtype_to_pads(size, reach, strides, padding)
    else:
        pads = [(padding, padding)] * 2
    products = jax.config.jax_default_matmul_precision  # pyright: ignore[reportAttributeAccessIssue]
    return Geometry(strides, cast(tuple[Sides, Sides], tuple(pads)), dilation, products)


@functools.partial(jax.custom_vjp, nondiff_argnums=(2,))
def convolution(
    x: Float[Array, "batch height width channels"],
    kernel: Float[Array, "rows columns channels new_channels"],
    geometry: Geometry,
) -> Float[Array, "batch new_height new_width new_channels"]:
    """XLA's convolution.

    On CPUs the gradient of a kernel of 1 × 1 is a product of matrices, which takes a third to a
    twenty-fourth of the time of XLA's, and that of a larger one the sum of those of pieces of the
    maps (`docs/performance.md`).
    """
    return _plain(x, kernel, geometry)


def _plain(x: jax.Array, kernel: jax.Array, geometry: Geometry) -> jax.Array:
    return jax.lax.conv_general_dilated(
        x,
        kernel,
        window_strides=geometry.strides,
        padding=geometry.pads,
        rhs_dilation=geometry.dilation,
        dimension_numbers=LAYOUT,
    )


def _forward(
    x: jax.Array, kernel: jax.Array, geometry: Geometry
) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
    return _plain(x, kernel, geometry), (x, kernel)


def _backward(
    geometry: Geometry, residuals: tuple[jax.Array, jax.Array], gradient: jax.Array
) -> tuple[jax.Array, jax.Array]:
    x, kernel = residuals
    with jax.default_matmul_precision(geometry.products):
        return _gradients(x, kernel, gradient, geometry)


def _gradients(
    x: jax.Array, kernel: jax.Array, gradient: jax.Array, geometry: Geometry
) -> tuple[jax.Array, jax.Array]:
    (of_x,) = jax.linear_transpose(lambda x: _plain(x, kernel, geometry), x)(gradient)

    of_kernel = jax.lax.platform_dependent(
        x,
        gradient,
        cpu=functools.partial(_gradient_on_cpus, kernel_shape=kernel.shape, geometry=geometry),
        default=functools.partial(_plain_gradient, kernel_shape=kernel.shape, geometry=geometry),
    )
    return of_x, of_kernel


convolution.defvjp(_forward, _backward)


def _plain_gradient(
    x: jax.Array, gradient: jax.Array, *, kernel_shape: tuple[int, ...], geometry: Geometry
) -> jax.Array:
    kernel = jax.ShapeDtypeStruct(kernel_shape, x.dtype)
    back = jax.linear_transpose(lambda kernel: _plain(x, kernel, geometry), kernel)
    return back(gradient)[0]


def _gradient_on_cpus(
    x: jax.Array, gradient: jax.Array, *, kernel_shape: tuple[int, ...], geometry: Geometry
) -> jax.Array:
    if kernel_shape[:2] == (1, 1):
        return _gradient_of_one_cell(x, gradient, geometry)
    if math.prod(kernel_shape[2:]) < MANY_CHANNELS:
        return _plain_gradient(x, gradient, kernel_shape=kernel_shape, geometry=geometry)
    return _gradient_in_pieces(x, gradient, kernel_shape, geometry)


def _gradient_of_one_cell(x: jax.Array, gradient: jax.Array, geometry: Geometry) -> jax.Array:
    """The gradient of a kernel of 1 × 1: the product of what it has read with the gradient."""
    x = _pad(x, geometry.pads)
    row_step, column_step = geometry.strides
    read = x[:, ::row_step, ::column_step]
    return jnp.tensordot(read, gradient, axes=((0, 1, 2), (0, 1, 2)))[None, None]


def _gradient_in_pieces(
    x: jax.Array, gradient: jax.Array, kernel_shape: tuple[int, ...], geometry: Geometry
) -> jax.Array:
    """The sum of the gradients of some images at a time, or of bands of rows of single ones."""
    batch, num_rows = gradient.shape[:2]
    of_image = (x.size + gradient.size) // batch
    fitting = (n for n in range(2, batch + 1) if batch % n == 0 and n * of_image <= PIECE)
    images = max(fitting, default=1)
    rows = -(-num_rows // -(-of_image // PIECE))
    total = jnp.zeros(kernel_shape, x.dtype)
    for image in range(0, batch, images):
        for row in range(0, num_rows, rows):
            of_rows = gradient[image : image + images, row : row + rows]
            some = x[image : image + images]
            read, there = _read_for(some, row, of_rows.shape[1], kernel_shape[0], geometry)
            total += _plain_gradient(read, of_rows, kernel_shape=kernel_shape, geometry=there)
    return total


def _read_for(
    x: jax.Array, first: int, rows: int, kernel_rows: int, geometry: Geometry
) -> tuple[jax.Array, Geometry]:
    """What some rows of a convolution's output are computed from, and with which padding."""
    stride, (top, _) = geometry.strides[0], geometry.pads[0]
    begin = first * stride - top
    end = begin + (rows - 1) * stride + (kernel_rows - 1) * geometry.dilation[0] + 1
    height = x.shape[1]
    pads = (max(0, -begin), max(0, end - height))
    return x[:, max(0, begin) : min(end, height)], geometry._replace(pads=(pads, geometry.pads[1]))


@functools.partial(jax.custom_vjp, nondiff_argnums=(2, 3))
def depthwise(
    x: Float[Array, "batch height width channels"],
    kernel: Float[Array, "side side channels"],
    stride: int,
    pads: tuple[Sides, Sides],
) -> Float32[Array, "batch new_height new_width channels"]:
    """A convolution of each channel for itself, as a sum of shifted products.

    What a grouped convolution computes; XLA's takes 4 to 40 times as long on CPUs. Nothing but `x`
    and the kernel is kept for the gradients.
    """
    return _sum_of_products(_pad(x, pads), kernel, stride)


def _pad(x: jax.Array, pads: tuple[Sides, Sides]) -> jax.Array:
    return jnp.pad(x, ((0, 0), *pads, (0, 0)))


def _windows(padded: jax.Array, side: int, stride: int) -> list[list[jax.Array]]:
    """For each cell of a kernel, by row and column, what it reads."""
    rows, columns = (size - side + 1 for size in padded.shape[1:3])
    return [
        [padded[:, i : i + rows : stride, j : j + columns : stride] for j in range(side)]
        for i in range(side)
    ]


def _sum_of_products(padded: jax.Array, kernel: jax.Array, stride: int) -> jax.Array:
    total = jnp.float32(0)
    for row, weights in zip(_windows(padded, len(kernel), stride), kernel, strict=True):
        for read, weight in zip(row, weights, strict=True):
            total += (read * weight).astype(jnp.float32)
    return total


def _depthwise_forward(
    x: jax.Array, kernel: jax.Array, stride: int, pads: tuple[Sides, Sides]
) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
    return depthwise(x, kernel, stride, pads), (x, kernel)


def _depthwise_backward(
    stride: int,
    pads: tuple[Sides, Sides],
    residuals: tuple[jax.Array, jax.Array],
    gradient: jax.Array,
) -> tuple[jax.Array, jax.Array]:
    x, kernel = residuals
    side = len(kernel)
    # The gradient of x is the convolution of the other, its cells apart, with the turned kernel.
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
    """The gradient of the kernel: what each cell has read, times the gradient, summed."""
    sums = [
        [jnp.sum(read * gradient, axis=(0, 1, 2)) for read in row]
        for row in _windows(padded, side, stride)
    ]
    return jnp.stack([jnp.stack(row) for row in sums])


def _depthwise_gradient_by_rows(
    padded: jax.Array, gradient: jax.Array, *, side: int, stride: int
) -> jax.Array:
    """The same, a row of an image at a time: on a CPU XLA's sums take ten times as long."""
    batch, num_rows, num_columns, channels = gradient.shape
    width = padded.shape[2]

    def add(place: jax.Array, sums: tuple[jax.Array, ...]) -> tuple[jax.Array, ...]:
        image, row = place // num_rows, place % num_rows
        of_row = jax.lax.dynamic_slice(gradient, (image, row, 0, 0), (1, 1, num_columns, channels))
        read = jax.lax.dynamic_slice(
            padded, (image, row * stride, 0, 0), (1, side, width, channels)
        )
        windows = itertools.chain.from_iterable(_windows(read, side, stride))
        return tuple(
            total + (window * of_row)[0, 0] for total, window in zip(sums, windows, strict=True)
        )

    zeros = (jnp.zeros((num_columns, channels), jnp.float32),) * side**2
    sums = jax.lax.fori_loop(0, batch * num_rows, add, zeros)
    totals = jnp.stack([jnp.sum(each, axis=0) for each in sums])
    return totals.reshape(side, side, channels)
