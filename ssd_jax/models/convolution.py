"""Convolutions as functions of arrays, with gradients that are fast on CPUs too."""

import contextlib
import contextvars
import functools
import math
from collections.abc import Iterator
from typing import NamedTuple, cast

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from ssd_jax.models import winograd

Sides = tuple[int, int]  # along rows and columns
LAYOUT = ("NHWC", "HWIO", "NHWC")
# On a CPU, the gradient of a kernel with MANY_CHANNELS or more (in times out) is computed in pieces
# of maps of PIECE numbers: for larger ones XLA takes up to four times as long.
MANY_CHANNELS = 1024
PIECE = 3_000_000
SMALL = 1_100_000  # numbers in the maps of an image, up to which pieces are no faster

# From this number of products of an image with one cell of the kernel, Winograd's algorithm saves
# more time than its compilation takes.
MANY_PRODUCTS = 90_000_000

_plain_alone = contextvars.ContextVar("_plain_alone", default=False)


class Geometry(NamedTuple):
    """The movement of a kernel over a map, and the precision of products.

    Attributes:
      strides: cells between two places of the kernel.
      pads: cells of zeros before and after.
      dilation: cells between two cells of the kernel.
      products: see `jax.default_matmul_precision`. Kept here because it is no longer set
        when gradients are traced.
    """

    strides: Sides
    pads: tuple[Sides, Sides]
    dilation: Sides
    products: str | None


def convolve(
    x: Float[Array, "batch height width channels"], *convolutions: nnx.Conv
) -> Float[Array, "batch new_height new_width new_channels"]:
    """Applies several convolutions to one feature map and concatenates their outputs.

    They may differ only in their weights, and are computed as one, which reads the map once. In
    bfloat16, channels are padded to a multiple of 8, for the matrix units of GPUs.
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
    # The types that `ConvBlock` and the heads pass.
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
    """XLA's convolution, or Winograd's algorithm on CPUs in float32 where it is faster.

    On CPUs, the gradient of a kernel of 1 × 1 is a product of matrices, 3 to 24 times as fast as
    XLA's. The gradient of a larger kernel is the sum over pieces of the maps
    (`docs/performance.md`).
    """
    if not _suits_winograd(x, kernel.shape, geometry):
        return _plain(x, kernel, geometry)
    return jax.lax.platform_dependent(
        x,
        kernel,
        cpu=functools.partial(winograd.winograd, pads=geometry.pads),
        default=functools.partial(_plain, geometry=geometry),
    )


def _suits_winograd(x: jax.Array, kernel_shape: tuple[int, ...], geometry: Geometry) -> bool:
    """Whether Winograd's algorithm is faster on a CPU: large layers, channels in whole vectors."""
    ones, new_channels = (1, 1), kernel_shape[-1]
    return (
        not _plain_alone.get()
        and kernel_shape[:2] == (3, 3)
        and geometry.strides == geometry.dilation == ones
        and x.dtype == jnp.float32
        and min(kernel_shape[2:]) >= 128
        and new_channels % 32 == 0
        and math.prod(x.shape[1:]) * new_channels >= MANY_PRODUCTS
        and max(max(geometry.pads)) <= 2
    )


@contextlib.contextmanager
def plain_convolutions() -> Iterator[None]:
    """A block in which convolutions are traced as plain XLA operations on every platform."""
    token = _plain_alone.set(True)
    try:
        yield
    finally:
        _plain_alone.reset(token)


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
    return convolution(x, kernel, geometry), (x, kernel)


def _backward(
    geometry: Geometry, residuals: tuple[jax.Array, jax.Array], gradient: jax.Array
) -> tuple[jax.Array, jax.Array]:
    x, kernel = residuals
    with jax.default_matmul_precision(geometry.products):
        return _gradients(x, kernel, gradient, geometry)


def _gradients(
    x: jax.Array, kernel: jax.Array, gradient: jax.Array, geometry: Geometry
) -> tuple[jax.Array, jax.Array]:
    def by_transposition(gradient: jax.Array, kernel: jax.Array) -> jax.Array:
        return jax.linear_transpose(lambda x: _plain(x, kernel, geometry), x)(gradient)[0]

    def by_winograd(gradient: jax.Array, kernel: jax.Array) -> jax.Array:
        (top, bottom), (left, right) = geometry.pads
        turned = kernel[::-1, ::-1].swapaxes(2, 3)
        return winograd.winograd(gradient, turned, ((2 - top, 2 - bottom), (2 - left, 2 - right)))

    if _suits_winograd(gradient, kernel.swapaxes(2, 3).shape, geometry):
        of_x = jax.lax.platform_dependent(
            gradient, kernel, cpu=by_winograd, default=by_transposition
        )
    else:
        of_x = by_transposition(gradient, kernel)

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
    if _suits_winograd(x, kernel_shape, geometry):
        return winograd.kernel_gradient(x, gradient, geometry.pads)
    of_image = (x.size + gradient.size) // len(x)
    if math.prod(kernel_shape[2:]) < MANY_CHANNELS or of_image <= SMALL:
        return _plain_gradient(x, gradient, kernel_shape=kernel_shape, geometry=geometry)
    return _gradient_in_pieces(x, gradient, kernel_shape, geometry)


def _gradient_of_one_cell(x: jax.Array, gradient: jax.Array, geometry: Geometry) -> jax.Array:
    """The gradient of a kernel of 1 × 1: the product of its inputs and the output gradient."""
    x = jnp.pad(x, ((0, 0), *geometry.pads, (0, 0)))
    row_step, column_step = geometry.strides
    read = x[:, ::row_step, ::column_step]
    return jnp.tensordot(read, gradient, axes=((0, 1, 2), (0, 1, 2)))[None, None]


def _gradient_in_pieces(
    x: jax.Array, gradient: jax.Array, kernel_shape: tuple[int, ...], geometry: Geometry
) -> jax.Array:
    """Sums the gradients of groups of images, or of bands of rows of single images."""
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
    """The input rows of some output rows of a convolution, and their padding."""
    stride, (top, _) = geometry.strides[0], geometry.pads[0]
    begin = first * stride - top
    end = begin + (rows - 1) * stride + (kernel_rows - 1) * geometry.dilation[0] + 1
    height = x.shape[1]
    pads = (max(0, -begin), max(0, end - height))
    return x[:, max(0, begin) : min(end, height)], geometry._replace(pads=(pads, geometry.pads[1]))
