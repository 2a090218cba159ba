"""MobileNetV3-Large (Howard et al. 2019, table 1) with the two feature maps that SSDLite reads.

As in torchvision's `ssdlite320_mobilenet_v3_large`: the last layers have half of their channels
(section 6.3 and table 6).
"""

from typing import NamedTuple

import jax
from flax import nnx
from jaxtyping import Array, Float

from ssd_jax.models.inverted_residual import InvertedResidual
from ssd_jax.models.layers import ConvBlock, ConvOptions, NormOptions, relu, scaled


class BlockShape(NamedTuple):
    """A row of the paper's table 1.

    Attributes:
      kernel: side of the depthwise convolution.
      wide_channels: after the first convolution.
      channels: of the output.
      excite: whether it has squeeze-and-excite.
      hard_swish: whether its activation is hard swish, not ReLU.
      stride: of the depthwise convolution.
    """

    kernel: int
    wide_channels: int
    channels: int
    excite: bool
    hard_swish: bool
    stride: int


FIRST_CHANNELS, LAST_CHANNELS = 16, 480
BLOCKS = (
    BlockShape(3, 16, 16, False, False, 1),
    BlockShape(3, 64, 24, False, False, 2),
    BlockShape(3, 72, 24, False, False, 1),
    BlockShape(5, 72, 40, True, False, 2),
    BlockShape(5, 120, 40, True, False, 1),
    BlockShape(5, 120, 40, True, False, 1),
    BlockShape(3, 240, 80, False, True, 2),
    BlockShape(3, 200, 80, False, True, 1),
    BlockShape(3, 184, 80, False, True, 1),
    BlockShape(3, 184, 80, False, True, 1),
    BlockShape(3, 480, 112, True, True, 1),
    BlockShape(3, 672, 112, True, True, 1),
    # From here on half of the table's 160 and 960 channels.
    BlockShape(5, 672, 80, True, True, 2),
    BlockShape(5, 480, 80, True, True, 1),
    BlockShape(5, 480, 80, True, True, 1),
)
FINE_BLOCK = 12  # its widened input is the finer map
NORM = NormOptions(momentum=0.97, epsilon=1e-3)


class MobileNetV3(nnx.Module):
    """Image to two feature maps, of stride 16 and 32.

    Args:
      width: multiplies the channels of every layer.
      batch_norm: whether batch norm follows every convolution except those of squeeze-and-excite.
      dtype: of the computation; parameters stay float32.
    """

    def __init__(
        self, *, width: float, batch_norm: bool, dtype: jax.typing.DTypeLike, rngs: nnx.Rngs
    ) -> None:
        def options(hard_swish: bool) -> ConvOptions:
            return ConvOptions(
                batch_norm=batch_norm,
                activation=jax.nn.hard_swish if hard_swish else relu,
                kernel_init=nnx.initializers.variance_scaling(2.0, "fan_out", "normal"),
                dtype=dtype,
                rngs=rngs,
                norm=NORM,
            )

        channels = scaled(FIRST_CHANNELS, width)
        self.first = ConvBlock(3, channels, 3, options(True), stride=2, padding=1)
        blocks = []
        for shape in BLOCKS:
            out_channels = scaled(shape.channels, width)
            blocks.append(
                InvertedResidual(
                    channels,
                    scaled(shape.wide_channels, width),
                    out_channels,
                    options(shape.hard_swish),
                    stride=shape.stride,
                    padding=shape.kernel // 2,
                    kernel=shape.kernel,
                    excite=shape.excite,
                )
            )
            channels = out_channels
        self.blocks = nnx.List(blocks)
        last_channels = scaled(LAST_CHANNELS, width)
        self.last = ConvBlock(channels, last_channels, 1, options(True))
        self.out_channels = (blocks[FINE_BLOCK].wide_channels, last_channels)

    def __call__(
        self, x: Float[Array, "batch height width 3"], train: bool
    ) -> list[Float[Array, "batch _ _ _"]]:
        """Images to two feature maps."""
        fine = None
        x = self.first(x, train)
        for index, block in enumerate(self.blocks):
            x, wide = block(x, train)
            if index == FINE_BLOCK:
                fine = wide
        assert fine is not None
        return [fine, self.last(x, train)]
