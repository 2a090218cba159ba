"""VGG16 as SSD uses it (paper section 3; Caffe: `VGGNetBody`)."""

import jax
from flax import nnx
from jaxtyping import Array, Float

from ssd_jax.models.layers import ConvBlock, ConvOptions, L2Norm, max_pool, scaled

# Output channels of the convolutions of each stage; a pooling layer follows every stage.
STAGES = ((64, 64), (128, 128), (256, 256, 256), (512, 512, 512), (512, 512, 512))

# The usual size of a pixel minus the mean.
PIXEL_SIZE = 64.0


class VGG16(nnx.Module):
    """Image to feature maps, of which conv4_3 (stride 8, L2-normalised) is the first.

    Layers carry Caffe's names; there is no dropout. With `atrous`, pool5 is 3×3 with stride 1, and
    fc6 is a 3×3 convolution of dilation 6 instead of VGG's 7×7 fully connected layer; the second
    map is fc7 (stride 16). Without it, VGG is unchanged (paper section 3.2, "Atrous is faster"):
    pool5 halves the map, fc6 is 7×7 and has 4096 channels, as fc7 has, and the maps after the first
    are conv5_3 (stride 16) and fc7 (stride 32).

    Args:
      atrous: see above.
      width: multiplies the channels of every layer.
      batch_norm: whether batch norm follows every convolution, for training from scratch.
      dtype: of the computation; parameters stay float32.
    """

    def __init__(
        self,
        *,
        atrous: bool = True,
        width: float,
        batch_norm: bool,
        dtype: jax.typing.DTypeLike,
        rngs: nnx.Rngs,
    ) -> None:
        # He et al. 2015: without batch norm 15 ReLU layers need this to train from scratch, and the
        # first of them has to scale pixels, which are not normalised, to a size of about 1.
        scale_of_pixels = 2.0 if batch_norm else 2 / PIXEL_SIZE**2
        first, options = (
            ConvOptions(
                batch_norm=batch_norm,
                kernel_init=nnx.initializers.variance_scaling(scale, "fan_in", "truncated_normal"),
                dtype=dtype,
                rngs=rngs,
            )
            for scale in (scale_of_pixels, 2.0)
        )
        channels = 3
        for stage, stage_channels in enumerate(STAGES, start=1):
            for index, out_channels in enumerate(stage_channels, start=1):
                out_channels = scaled(out_channels, width)
                block = ConvBlock(
                    channels, out_channels, 3, first if channels == 3 else options, padding=1
                )
                setattr(self, f"conv{stage}_{index}", block)
                channels = out_channels
        fc_channels = scaled(1024 if atrous else 4096, width)
        if atrous:
            self.fc6 = ConvBlock(channels, fc_channels, 3, options, padding=6, dilation=6)
        else:
            self.fc6 = ConvBlock(channels, fc_channels, 7, options, padding=3)
        self.fc7 = ConvBlock(fc_channels, fc_channels, 1, options)
        conv4_3_channels = scaled(512, width)
        # 20 at 512 channels; with fewer channels, scaled so that each feature has the same size.
        self.conv4_3_norm = L2Norm(conv4_3_channels, 20.0 * (conv4_3_channels / 512) ** 0.5)
        self.atrous = atrous
        if atrous:
            self.out_channels = (conv4_3_channels, fc_channels)
        else:
            self.out_channels = (conv4_3_channels, channels, fc_channels)

    def __call__(
        self, x: Float[Array, "batch height width 3"], train: bool
    ) -> list[Float[Array, "batch _ _ _"]]:
        """Images to two or three feature maps."""
        conv4_3 = None
        for stage, stage_channels in enumerate(STAGES, start=1):
            for index in range(1, len(stage_channels) + 1):
                x = getattr(self, f"conv{stage}_{index}")(x, train)
            if stage == 4:
                conv4_3 = self.conv4_3_norm(x)
            if stage < 5:
                x = max_pool(x, 2, 2, "CEIL")
        assert conv4_3 is not None
        conv5_3 = x
        if self.atrous:
            pool5 = max_pool(conv5_3, 3, 1, padding=1)
        else:
            pool5 = max_pool(conv5_3, 2, 2, "CEIL")
        fc7 = self.fc7(self.fc6(pool5, train), train)
        return [conv4_3, fc7] if self.atrous else [conv4_3, conv5_3, fc7]
