"""Layers that the backbones and heads share."""

import dataclasses
import functools
import itertools
from collections.abc import Callable
from types import EllipsisType
from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from ssd_jax.models.convolution import convolve
from ssd_jax.models.depthwise import depthwise, plain_depthwise, windows
from ssd_jax.models.plain import is_plain


def scaled(channels: int, width: float) -> int:
    """Channels times a width multiplier, as a multiple of 8 (and at least 8)."""
    return max(8, round(channels * width / 8) * 8)


class DepthwiseConv(nnx.Module):
    """A depthwise convolution: each channel is convolved separately."""

    def __init__(
        self,
        channels: int,
        kernel: int,
        *,
        stride: int,
        padding: int | str,
        use_bias: bool,
        kernel_init: nnx.Initializer,
        dtype: jax.typing.DTypeLike,
        rngs: nnx.Rngs,
    ) -> None:
        self.kernel = nnx.Param(kernel_init(rngs.params(), (kernel, kernel, 1, channels)))
        self.bias = nnx.Param(jnp.zeros(channels)) if use_bias else None
        self.stride, self.padding, self.dtype = stride, padding, dtype

    def __call__(
        self, x: Float[Array, "batch height width channels"]
    ) -> Float[Array, "batch new_height new_width channels"]:
        kernel = self.kernel[...].astype(self.dtype)[:, :, 0]
        size, stride, padding = len(kernel), self.stride, self.padding
        if isinstance(padding, str):
            pads = jax.lax.padtype_to_pads(x.shape[1:3], (size, size), (stride, stride), padding)
        else:
            pads = [(padding, padding)] * 2
        top_bottom, left_right = pads
        convolve = plain_depthwise if is_plain() else depthwise
        total: jax.Array = convolve(x.astype(self.dtype), kernel, stride, (top_bottom, left_right))
        if self.bias is not None:
            total += self.bias[...]
        return total.astype(self.dtype)


@jax.custom_vjp
def relu(x: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    """max(x, 0), with a gradient that is computed from the output.

    The input is not kept, and XLA can fuse a convolution with the operations after it.
    """
    return jnp.maximum(x, 0)


def _relu_forward(x: jax.Array) -> tuple[jax.Array, jax.Array]:
    y = relu(x)
    return y, y


def _relu_backward(y: jax.Array, gradient: jax.Array) -> tuple[jax.Array]:
    return (jnp.where(y == 0, 0, gradient),)


relu.defvjp(_relu_forward, _relu_backward)


class NormOptions(NamedTuple):
    """Options of batch norm.

    Attributes:
      momentum: the share of the running statistics that a step keeps.
      epsilon: added to variances.
    """

    momentum: float
    epsilon: float


NORM = NormOptions(momentum=0.9, epsilon=1e-5)


@dataclasses.dataclass(frozen=True)
class ConvOptions:
    """Options that all convolutions of a network share.

    Attributes:
      batch_norm: whether batch norm follows each of them.
      kernel_init: initialiser of kernels.
      dtype: of the computation; parameters stay float32.
      rngs: the random numbers that parameters start from.
      activation: at the end of a block; None = none.
      scale_init: initialiser of the scales of batch norm.
      norm: the other options of batch norm.
    """

    batch_norm: bool
    kernel_init: nnx.Initializer
    dtype: jax.typing.DTypeLike
    rngs: nnx.Rngs
    activation: Callable[[jax.Array], jax.Array] | None = relu
    scale_init: nnx.Initializer = nnx.initializers.ones
    norm: NormOptions = NORM


class RunningStatistic(nnx.BatchStat):
    """A statistic of batch norm, which is always set completely.

    Flax can also set a part, and makes a comparison for it. During tracing this comparison raises
    an error, whose message lists everything traced so far: that took two of six seconds in SSDLite.
    """

    def __setitem__(self, key: EllipsisType, value: jax.Array) -> None:
        assert key is ...
        self.set_value(value)


class BatchNorm(nnx.BatchNorm):
    """Batch norm with the options of a network."""

    def __init__(self, channels: int, options: ConvOptions) -> None:
        super().__init__(
            channels,
            momentum=options.norm.momentum,
            epsilon=options.norm.epsilon,
            scale_init=options.scale_init,
            dtype=options.dtype,
            rngs=options.rngs,
        )
        self.mean = RunningStatistic(self.mean.get_value())
        self.var = RunningStatistic(self.var.get_value())
        self.measures = False  # see `Network.measure_norms`

    def __call__(
        self,
        x: Float[Array, "batch height width channels"],
        use_running_average: bool | None = None,
        *,
        mask: jax.Array | None = None,
    ) -> Float[Array, "batch height width channels"]:
        """Normalises, scales and shifts each channel."""
        if self.measures:
            self._measure(x)
        return super().__call__(x, use_running_average, mask=mask)

    def _measure(self, x: Float[Array, "batch height width channels"]) -> None:
        """Adopts the statistics of `x`; scale and bias change so that outputs stay the same."""
        assert self.scale is not None and self.bias is not None
        axes = (0, 1, 2)
        mean, var = jnp.mean(x, axes, jnp.float32), jnp.var(x, axes, jnp.float32)
        factor = self.scale[...] / jnp.sqrt(self.var[...] + self.epsilon)
        self.bias.set_value(self.bias[...] + (mean - self.mean[...]) * factor)
        self.scale.set_value(factor * jnp.sqrt(var + self.epsilon))
        self.mean.set_value(mean)
        self.var.set_value(var)


class ConvBlock(nnx.Module):
    """Convolution, optional batch norm, activation.

    With `depthwise` each channel is convolved separately, and `out_channels` are the `in_channels`.
    `Network.apply` sets the mapped axis over which batch norm averages its statistics.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel: int,
        options: ConvOptions,
        *,
        stride: int = 1,
        padding: int | str = 0,
        dilation: int = 1,
        depthwise: bool = False,
    ) -> None:
        if depthwise:
            self.conv = DepthwiseConv(
                in_channels,
                kernel,
                stride=stride,
                padding=padding,
                use_bias=not options.batch_norm,
                kernel_init=options.kernel_init,
                dtype=options.dtype,
                rngs=options.rngs,
            )
        else:
            self.conv = nnx.Conv(
                in_channels,
                out_channels,
                (kernel, kernel),
                strides=(stride, stride),
                padding=padding,
                kernel_dilation=(dilation, dilation),
                use_bias=not options.batch_norm,
                kernel_init=options.kernel_init,
                dtype=options.dtype,
                rngs=options.rngs,
            )
        self.norm = BatchNorm(out_channels, options) if options.batch_norm else None
        self.activation = options.activation

    def __call__(
        self, x: Float[Array, "batch height width channels"], train: bool
    ) -> Float[Array, "batch new_height new_width new_channels"]:
        x = self.conv(x) if isinstance(self.conv, DepthwiseConv) else convolve(x, self.conv)
        if self.norm is not None:
            x = self.norm(x, use_running_average=not train)
        return x if self.activation is None else self.activation(x)


class L2Norm(nnx.Module):
    """Scales every cell's feature vector to length 1, times a learned weight per channel.

    Paper section 3.1, after ParseNet; Caffe: `normalize_layer.cpp`.
    """

    def __init__(self, channels: int, initial_scale: float) -> None:
        self.weight = nnx.Param(jnp.full(channels, initial_scale, jnp.float32))

    def __call__(self, x: Float[Array, "*cells channels"]) -> Float[Array, "*cells channels"]:
        # float32 throughout: in bfloat16 a sum of 512 squares does not overflow, but loses digits.
        wide = x.astype(jnp.float32)
        length = jnp.sqrt(jnp.sum(wide * wide, axis=-1, keepdims=True) + 1e-10)
        return (wide / length * self.weight[...]).astype(x.dtype)


def max_pool(
    x: Float[Array, "batch height width channels"],
    window: int,
    stride: int,
    padding: int | str = 0,
) -> Float[Array, "batch new_height new_width channels"]:
    """The largest value of every window of `[batch, height, width, channels]`.

    A maximum of shifted slices, whose gradient goes to the first of equal values, as in Caffe.
    XLA's own pooling does the same, but its gradient is a scatter: on an H200 a step of SSD300
    takes 11 % longer with it.

    Args:
      x: the feature maps.
      window: side of the window.
      stride: cells between two windows.
      padding: cells added on every side; "CEIL": at the bottom and the right, where a window would
        otherwise begin inside and end outside (75 becomes 38 for a window of 2, as in Caffe).
    """
    x = jnp.asarray(x)
    if is_plain():
        sides, steps = (1, window, window, 1), (1, stride, stride, 1)
        pads = _window_pads(x, window, stride, padding)
        return jax.lax.reduce_window(x, -jnp.inf, jax.lax.max, sides, steps, pads)
    return _max_pool(x, window, stride, padding)


@functools.partial(jax.custom_vjp, nondiff_argnums=(1, 2, 3))
def _max_pool(x: jax.Array, window: int, stride: int, padding: int | str) -> jax.Array:
    return _largest_in_windows(x, window, stride, padding)


def _largest_in_windows(x: jax.Array, window: int, stride: int, padding: int | str) -> jax.Array:
    return functools.reduce(jnp.maximum, _window_slices(x, window, stride, padding))


def _window_pads(
    x: jax.Array | jax.ShapeDtypeStruct, window: int, stride: int, padding: int | str
) -> list[tuple[int, int]]:
    if isinstance(padding, str):
        if padding != "CEIL":
            raise ValueError(f"padding is {padding!r}, but must be a number of cells or CEIL")
        return [(0, 0), *((0, -(size - window) % stride) for size in x.shape[1:3]), (0, 0)]
    return [(0, 0), (padding, padding), (padding, padding), (0, 0)]


def _window_slices(
    x: jax.Array, window: int, stride: int, padding: int | str, fill: float = -jnp.inf
) -> list[jax.Array]:
    """For each place in the window, row by row, the values of all windows there."""
    # In the type of x: converters to other formats treat a plain number as float64.
    filled = jnp.array(fill, x.dtype)
    x = jnp.pad(x, _window_pads(x, window, stride, padding), constant_values=filled)
    return list(itertools.chain.from_iterable(windows(x, window, stride)))


def _max_pool_forward(
    x: jax.Array, window: int, stride: int, padding: int | str
) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
    slices = _window_slices(x, window, stride, padding)
    largest, place = slices[0], jnp.zeros(slices[0].shape, jnp.uint8)
    for index, values in enumerate(slices[1:], start=1):
        place = jnp.where(values > largest, jnp.uint8(index), place)
        largest = jnp.maximum(largest, values)
    # One byte per window holds the place that gets the gradient. Of x, only the shape is kept.
    return largest, (place, jnp.zeros((0, *x.shape[1:]), x.dtype))


def _max_pool_backward(
    window: int,
    stride: int,
    padding: int | str,
    residuals: tuple[jax.Array, jax.Array],
    gradient: jax.Array,
) -> tuple[jax.Array]:
    place, like = residuals
    x = jax.ShapeDtypeStruct((len(place), *like.shape[1:]), like.dtype)
    if window == stride:
        return (_spread(place, gradient, window, x, _window_pads(x, window, stride, padding)),)
    slices_back = jax.linear_transpose(
        lambda x: _window_slices(x, window, stride, padding, fill=0), x
    )
    return slices_back([jnp.where(place == index, gradient, 0) for index in range(window**2)])


def _spread(
    place: jax.Array,
    gradient: jax.Array,
    window: int,
    x: jax.ShapeDtypeStruct,
    pads: list[tuple[int, int]],
) -> jax.Array:
    """The gradient of pooling with windows that do not overlap: each cell reads its window."""
    places = jnp.arange(window**2, dtype=jnp.uint8).reshape(1, 1, window, 1, window, 1)
    chosen = place[:, :, None, :, None] == places
    spread = jnp.where(chosen, gradient[:, :, None, :, None], 0)
    batch, rows, columns, channels = place.shape
    spread = spread.reshape(batch, rows * window, columns * window, channels)
    (top, _), (left, _) = pads[1:3]
    return spread[:, top : top + x.shape[1], left : left + x.shape[2]]


_max_pool.defvjp(_max_pool_forward, _max_pool_backward)
