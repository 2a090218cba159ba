"""ResNet-50 up to its third stage, as NVIDIA's SSD300 uses it (He et al. 2015, table 1)."""

import dataclasses

import jax
from flax import nnx
from jaxtyping import Array, Float

from ssd_jax.models.layers import ConvBlock, ConvOptions, max_pool, relu, scaled

# Inner channels, blocks and stride of each stage. The third keeps its resolution, so that its map
# has the stride of VGG16's conv4_3; the fourth is left out.
STAGES = ((64, 3, 1), (128, 4, 2), (256, 6, 1))
EXPANSION = 4  # output channels of a block over its inner ones


class Bottleneck(nnx.Module):
    """1×1 that narrows, 3×3, 1×1 that widens, with a shortcut."""

    def __init__(
        self,
        in_channels: int,
        channels: int,
        options: ConvOptions,
        *,
        stride: int,
        stride_first: bool,
    ) -> None:
        out_channels = channels * EXPANSION
        strides = (stride, 1) if stride_first else (1, stride)
        self.narrow = ConvBlock(in_channels, channels, 1, options, stride=strides[0])
        self.conv = ConvBlock(channels, channels, 3, options, stride=strides[1], padding=1)
        linear = dataclasses.replace(options, activation=None)
        # A block starts as its shortcut (Goyal et al. 2017): otherwise thirteen outputs add up.
        quiet = dataclasses.replace(linear, scale_init=nnx.initializers.zeros)
        self.widen = ConvBlock(channels, out_channels, 1, quiet)
        self.shortcut = (
            ConvBlock(in_channels, out_channels, 1, linear, stride=stride)
            if in_channels != out_channels
            else None
        )

    def __call__(
        self, x: Float[Array, "batch height width channels"], train: bool
    ) -> Float[Array, "batch _ _ _"]:
        shortcut = x if self.shortcut is None else self.shortcut(x, train)
        x = self.widen(self.conv(self.narrow(x, train), train), train)
        return relu(x + shortcut)


class ResNet50(nnx.Module):
    """Image to one feature map of stride 8.

    Args:
      stride_first: whether the first convolution of a block shrinks the map, as in the paper and in
        Keras, or the second, as in torchvision.
      width: multiplies the channels of every layer.
      batch_norm: whether batch norm follows every convolution.
      dtype: of the computation; parameters stay float32.
    """

    def __init__(
        self,
        *,
        stride_first: bool = False,
        width: float,
        batch_norm: bool,
        dtype: jax.typing.DTypeLike,
        rngs: nnx.Rngs,
    ) -> None:
        options = ConvOptions(
            batch_norm=batch_norm,
            kernel_init=nnx.initializers.variance_scaling(2.0, "fan_out", "normal"),
            dtype=dtype,
            rngs=rngs,
        )
        channels = scaled(64, width)
        self.conv1 = ConvBlock(3, channels, 7, options, stride=2, padding=3)
        blocks = []
        for stage_channels, num_blocks, stride in STAGES:
            inner = scaled(stage_channels, width)
            for index in range(num_blocks):
                blocks.append(
                    Bottleneck(
                        channels,
                        inner,
                        options,
                        stride=1 if index else stride,
                        stride_first=stride_first,
                    )
                )
                channels = inner * EXPANSION
        self.blocks = nnx.List(blocks)
        self.out_channels = (channels,)

    def __call__(
        self, x: Float[Array, "batch height width 3"], train: bool
    ) -> list[Float[Array, "batch _ _ _"]]:
        """Images to one feature map."""
        x = self.conv1(x, train)
        x = max_pool(x, 3, 2, padding=1)
        for block in self.blocks:
            x = block(x, train)
        return [x]
