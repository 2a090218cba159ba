"""MobileNetV2 (Sandler et al. 2018, table 2) with the two feature maps that SSDLite reads."""

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
# The first block of the stage with 160 channels: its input, widened or not, is the finer map.
FINE_BLOCK = 13


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
