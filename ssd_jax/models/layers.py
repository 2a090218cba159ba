"""Layers that the backbones and heads share."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from flax import nnx

from ssd_jax.parallel import DEVICES


def scaled(channels: int, width: float) -> int:
    """Channels times a width multiplier, as a multiple of 8 (and at least 8)."""
    return max(8, round(channels * width / 8) * 8)


class DepthwiseConv(nnx.Module):
    """A convolution on each channel for itself, as a sum of shifted products.

    What a grouped convolution computes; XLA's takes 4 to 40 times as long on CPUs.
    """

    def __init__(
        self,
        channels: int,
        kernel: int,
        *,
        stride: int,
        padding: int | str,
        use_bias: bool,
        kernel_init: nnx.Initializer,
        dtype: jnp.dtype,
        rngs: nnx.Rngs,
    ):
        self.kernel = nnx.Param(kernel_init(rngs.params(), (kernel, kernel, 1, channels)))
        self.bias = nnx.Param(jnp.zeros(channels)) if use_bias else None
        self.stride, self.padding, self.dtype = stride, padding, dtype

    def __call__(self, x: jax.Array) -> jax.Array:
        kernel = self.kernel[...].astype(self.dtype)[:, :, 0]
        size, stride = len(kernel), self.stride
        if self.padding == "SAME":
            pads = jax.lax.padtype_to_pads(x.shape[1:3], (size, size), (stride, stride), "SAME")
        else:
            pads = [(self.padding, self.padding)] * 2
        x = jnp.pad(x.astype(self.dtype), ((0, 0), *pads, (0, 0)))
        rows, columns = (side - size + 1 for side in x.shape[1:3])
        total = 0.0
        for i in range(size):
            for j in range(size):
                shifted = x[:, i : i + rows : stride, j : j + columns : stride]
                total += (shifted * kernel[i, j]).astype(jnp.float32)
        if self.bias is not None:
            total += self.bias[...]
        return total.astype(self.dtype)


class ConvBlock(nnx.Module):
    """Convolution, optional batch norm, activation (None for none).

    Takes `[batch, height, width, in_channels]`; with `depthwise` as many channels come out.
    Batch statistics are those of the global batch: in training the module must run under the
    `pmap` of `ssd_jax.parallel`.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel: int,
        *,
        stride: int = 1,
        padding: int | str = 0,
        dilation: int = 1,
        depthwise: bool = False,
        batch_norm: bool = False,
        activation: Callable[[jax.Array], jax.Array] | None = nnx.relu,
        kernel_init: nnx.Initializer,
        scale_init: nnx.Initializer = nnx.initializers.ones,
        dtype: jnp.dtype,
        rngs: nnx.Rngs,
    ):
        shared = dict(use_bias=not batch_norm, kernel_init=kernel_init, dtype=dtype, rngs=rngs)
        if depthwise:
            self.conv = DepthwiseConv(in_channels, kernel, stride=stride, padding=padding, **shared)
        else:
            self.conv = nnx.Conv(
                in_channels,
                out_channels,
                (kernel, kernel),
                strides=stride,
                padding=padding,
                kernel_dilation=dilation,
                **shared,
            )
        self.norm = (
            nnx.BatchNorm(
                out_channels,
                momentum=0.9,
                epsilon=1e-5,
                axis_name=DEVICES,
                scale_init=scale_init,
                dtype=dtype,
                rngs=rngs,
            )
            if batch_norm
            else None
        )
        self.activation = activation

    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        x = self.conv(x)
        if self.norm is not None:
            x = self.norm(x, use_running_average=not train)
        return x if self.activation is None else self.activation(x)


class L2Norm(nnx.Module):
    """Scales every cell's feature vector to length 1, times a learned weight per channel.

    Paper section 3.1, after ParseNet; Caffe: `normalize_layer.cpp`.
    """

    def __init__(self, channels: int, initial_scale: float):
        self.weight = nnx.Param(jnp.full(channels, initial_scale, jnp.float32))

    def __call__(self, x: jax.Array) -> jax.Array:
        # float32 throughout: a sum of 512 squares overflows no bfloat16, but loses its digits.
        wide = x.astype(jnp.float32)
        length = jnp.sqrt(jnp.sum(wide * wide, axis=-1, keepdims=True) + 1e-10)
        return (wide / length * self.weight[...]).astype(x.dtype)


def max_pool_2x2(x: jax.Array) -> jax.Array:
    """Halves height and width, rounding up as Caffe does (75 becomes 38).

    The maximum of four strided slices in place of a pooling window: its gradient is a selection,
    which XLA runs faster than the select-and-scatter of a window.
    """
    height, width = x.shape[1:3]
    x = jnp.pad(x, ((0, 0), (0, height % 2), (0, width % 2), (0, 0)), constant_values=-jnp.inf)
    upper = jnp.maximum(x[:, ::2, ::2], x[:, ::2, 1::2])
    lower = jnp.maximum(x[:, 1::2, ::2], x[:, 1::2, 1::2])
    return jnp.maximum(upper, lower)
