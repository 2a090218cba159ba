"""MobileNetV2 (Sandler et al. 2018, table 2) with the feature maps that SSDLite reads."""

import jax
from flax import nnx
from jaxtyping import Array, Float

from ssd_jax.models.inverted_residual import InvertedResidual
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
# By stride, the first blocks of the stages with 64 and 160 channels: the input of such a block,
# widened or not, is a feature map.
FINE_BLOCKS = {8: 6, 16: 13}


class MobileNetV2(nnx.Module):
    """Image to feature maps, of stride 16 and 32.

    Args:
      finest: stride of the finest map; with 8 there are three. Sandler et al. have 16.
      widened: whether finer maps are read after the widening of their channels (96 to 576 at
        stride 16), as Sandler et al. do, or before it, as MMDetection does.
      same_padding: whether convolutions pad as in TensorFlow: with stride 2, an even map is padded
        only at the bottom and the right, where PyTorch pads all four sides.
      width: multiplies the channels of every layer.
      batch_norm: whether batch norm follows every convolution.
      dtype: of the computation; parameters stay float32.
    """

    def __init__(
        self,
        *,
        finest: int = 16,
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
                        channels * expansion,
                        out_channels,
                        options,
                        stride=1 if index else stride,
                        padding=padding,
                    )
                )
                channels = out_channels
        self.blocks = nnx.List(blocks)
        last_channels = scaled(1280, max(width, 1.0))
        self.last = ConvBlock(channels, last_channels, 1, options)
        self.widened = widened
        self.fine_blocks = [block for stride, block in FINE_BLOCKS.items() if stride >= finest]
        fine = (blocks[index] for index in self.fine_blocks)
        fine_channels = [block.wide_channels if widened else block.in_channels for block in fine]
        self.out_channels = (*fine_channels, last_channels)

    def __call__(
        self, x: Float[Array, "batch height width 3"], train: bool
    ) -> list[Float[Array, "batch _ _ _"]]:
        """Images to feature maps."""
        fine = []
        x = self.first(x, train)
        for index, block in enumerate(self.blocks):
            before = x
            x, wide = block(x, train)
            if index in self.fine_blocks:
                fine.append(wide if self.widened else before)
        return [*fine, self.last(x, train)]
