"""MobileNetV2 (Sandler et al. 2018, table 2) with the two feature maps that SSDLite reads."""

import dataclasses

import jax
from flax import nnx
from jaxtyping import Array, Float

from ssd_jax.models.layers import ConvBlock, ConvOptions, scaled

# Expansion, output channels, blocks and stride of each stage.
STAGES = (
    (1, 16, 1, 1),
    (6, 24, 2, 2),
    (6, 32, 3, 2),
    (6, 64, 4, 2),
    (6, 96, 3, 1),
    (6, 160, 3, 2),
    (6, 320, 1, 1),
)
# The first block of the stage with 160 channels: its input, widened or not, is the finer map.
FINE_BLOCK = 13


class InvertedResidual(nnx.Module):
    """1×1 that widens, 3×3 on each channel, 1×1 that narrows without activation."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        options: ConvOptions,
        *,
        expansion: int,
        stride: int,
        padding: int | str,
    ) -> None:
        channels = in_channels * expansion
        self.widen = ConvBlock(in_channels, channels, 1, options) if expansion > 1 else None
        self.depthwise = ConvBlock(
            channels, channels, 3, options, stride=stride, padding=padding, depthwise=True
        )
        linear = dataclasses.replace(options, activation=None)
        self.narrow = ConvBlock(channels, out_channels, 1, linear)
        self.has_shortcut = stride == 1 and in_channels == out_channels
        self.wide_channels = channels

    def __call__(
        self, x: Float[Array, "batch height width channels"], train: bool
    ) -> tuple[Float[Array, "batch _ _ _"], Float[Array, "batch height width wide"]]:
        """Its output, and its widened input."""
        wide = x if self.widen is None else self.widen(x, train)
        narrow = self.narrow(self.depthwise(wide, train), train)
        return (x + narrow if self.has_shortcut else narrow), wide


class MobileNetV2(nnx.Module):
    """Image to two feature maps, of stride 16 and 32.

    Args:
      widened: whether the finer map is read after the widening of its 96 channels to 576, as
        Sandler et al. do, or before it, as MMDetection does.
      same_padding: whether convolutions pad as in TensorFlow: those of stride 2 at the bottom and
        the right of an even map alone, where PyTorch pads all four sides.
      width: multiplies the channels of every layer.
      batch_norm: whether batch norm follows every convolution.
      dtype: of the computation; parameters stay float32.
    """

    def __init__(
        self,
        *,
        widened: bool = True,
        same_padding: bool = False,
        width: float,
        batch_norm: bool,
        dtype: jax.typing.DTypeLike,
        rngs: nnx.Rngs,
    ) -> None:
        options = ConvOptions(
            batch_norm=batch_norm,
            activation=nnx.relu6,
            kernel_init=nnx.initializers.variance_scaling(2.0, "fan_out", "normal"),
            dtype=dtype,
            rngs=rngs,
        )
        padding = "SAME" if same_padding else 1
        channels = scaled(32, width)
        self.first = ConvBlock(3, channels, 3, options, stride=2, padding=padding)
        blocks = []
        for expansion, stage_channels, num_blocks, stride in STAGES:
            out_channels = scaled(stage_channels, width)
            for index in range(num_blocks):
                blocks.append(
                    InvertedResidual(
                        channels,
                        out_channels,
                        options,
                        expansion=expansion,
                        stride=1 if index else stride,
                        padding=padding,
                    )
                )
                channels = out_channels
        self.blocks = nnx.List(blocks)
        last_channels = scaled(1280, max(width, 1.0))
        self.last = ConvBlock(channels, last_channels, 1, options)
        self.widened = widened
        fine_channels = blocks[FINE_BLOCK].wide_channels if widened else scaled(96, width)
        self.out_channels = (fine_channels, last_channels)

    def __call__(
        self, x: Float[Array, "batch height width 3"], train: bool
    ) -> list[Float[Array, "batch _ _ _"]]:
        """Images to two feature maps."""
        fine = None
        x = self.first(x, train)
        for index, block in enumerate(self.blocks):
            before = x
            x, wide = block(x, train)
            if index == FINE_BLOCK:
                fine = wide if self.widened else before
        assert fine is not None
        return [fine, self.last(x, train)]
