"""The block that MobileNetV2 and MobileNetV3 are made of."""

import dataclasses

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from ssd_jax.models.convolution import convolve
from ssd_jax.models.layers import ConvBlock, ConvOptions, relu


class InvertedResidual(nnx.Module):
    """1×1 that widens, depthwise 3×3 or 5×5, 1×1 that narrows without activation.

    Args:
      in_channels: of its input.
      wide_channels: of the middle; if they equal `in_channels`, the first 1×1 is left out.
      out_channels: of its output.
      options: of its convolutions.
      stride: of the middle one.
      padding: of the middle one.
      kernel: side of the middle one.
      excite: whether squeeze-and-excite scales the input of the last 1×1.
    """

    def __init__(
        self,
        in_channels: int,
        wide_channels: int,
        out_channels: int,
        options: ConvOptions,
        *,
        stride: int,
        padding: int | str,
        kernel: int = 3,
        excite: bool = False,
    ) -> None:
        widens = wide_channels != in_channels
        self.widen = ConvBlock(in_channels, wide_channels, 1, options) if widens else None
        self.depthwise = ConvBlock(
            wide_channels,
            wide_channels,
            kernel,
            options,
            stride=stride,
            padding=padding,
            depthwise=True,
        )
        self.excite = SqueezeExcite(wide_channels, options) if excite else None
        linear = dataclasses.replace(options, activation=None)
        self.narrow = ConvBlock(wide_channels, out_channels, 1, linear)
        self.has_shortcut = stride == 1 and in_channels == out_channels
        self.in_channels, self.wide_channels = in_channels, wide_channels

    def __call__(
        self, x: Float[Array, "batch height width channels"], train: bool
    ) -> tuple[Float[Array, "batch _ _ _"], Float[Array, "batch height width wide"]]:
        """Returns the output, and the widened input."""
        wide = x if self.widen is None else self.widen(x, train)
        middle = self.depthwise(wide, train)
        if self.excite is not None:
            middle = self.excite(middle)
        narrow = self.narrow(middle, train)
        return (x + narrow if self.has_shortcut else narrow), wide


class SqueezeExcite(nnx.Module):
    """Scales each channel by a number in [0, 1], computed from the means of all (Hu et al. 2018).

    As in MobileNetV3: a quarter of the channels in the middle, and a hard sigmoid.
    """

    def __init__(self, channels: int, options: ConvOptions) -> None:
        def convolution(inputs: int, outputs: int) -> nnx.Conv:
            return nnx.Conv(
                inputs,
                outputs,
                (1, 1),
                strides=(1, 1),
                padding=0,
                kernel_dilation=(1, 1),
                kernel_init=options.kernel_init,
                dtype=options.dtype,
                rngs=options.rngs,
            )

        squeezed = squeezed_channels(channels)
        self.squeeze = convolution(channels, squeezed)
        self.expand = convolution(squeezed, channels)

    def __call__(
        self, x: Float[Array, "batch height width channels"]
    ) -> Float[Array, "batch height width channels"]:
        means = jnp.mean(x, axis=(1, 2), keepdims=True)
        scales = jax.nn.hard_sigmoid(convolve(relu(convolve(means, self.squeeze)), self.expand))
        return x * scales


def squeezed_channels(channels: int) -> int:
    """A quarter of the channels, to the nearest multiple of 8, but at least 90 % of the quarter."""
    quarter = channels // 4
    nearest = max(8, (quarter + 4) // 8 * 8)
    return nearest + 8 if nearest < 0.9 * quarter else nearest
