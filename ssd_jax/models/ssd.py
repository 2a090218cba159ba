"""SSD: a backbone, extra feature maps, and heads on all of them (paper section 2.1)."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
from flax import nnx

from ssd_jax.models.heads import ExtraBlock, ExtraLayers, PredictionHeads
from ssd_jax.models.mobilenet_v2 import MobileNetV2
from ssd_jax.models.resnet import ResNet50
from ssd_jax.models.vgg import VGG16

BACKBONES = {"vgg16": VGG16, "resnet50": ResNet50, "mobilenet_v2": MobileNetV2}


class SSD(nnx.Module):
    """The whole network.

    Args:
      backbone: one of `BACKBONES`.
      extra_blocks: the feature maps added after the backbone's.
      boxes_per_cell: default boxes on a cell of each feature map, the backbone's first.
      num_classes: classes without the background.
      width: multiplies the channels of every layer but the heads' outputs.
      batch_norm: whether batch norm follows every convolution but the heads'.
      separable: whether extra layers and heads are separable convolutions (SSDLite).
      dtype: of the computation; parameters and outputs are float32.
    """

    def __init__(
        self,
        *,
        backbone: str,
        extra_blocks: Sequence[ExtraBlock],
        boxes_per_cell: Sequence[int],
        num_classes: int,
        width: float = 1.0,
        batch_norm: bool = False,
        separable: bool = False,
        dtype: jnp.dtype = jnp.float32,
        rngs: nnx.Rngs,
    ):
        shared = dict(width=width, batch_norm=batch_norm, dtype=dtype, rngs=rngs)
        self.backbone = BACKBONES[backbone](**shared)
        self.extras = ExtraLayers(
            self.backbone.out_channels[-1], extra_blocks, separable=separable, **shared
        )
        self.heads = PredictionHeads(
            self.backbone.out_channels + self.extras.out_channels,
            boxes_per_cell,
            num_classes + 1,
            separable=separable,
            # Xavier as in Caffe. A network from scratch starts quietly: it would spend its first
            # steps on unlearning the noise of large weights.
            kernel_init=(
                nnx.initializers.normal(0.01) if batch_norm else nnx.initializers.xavier_uniform()
            ),
            dtype=dtype,
            rngs=rngs,
        )

    def feature_maps(self, images: jax.Array, train: bool = False) -> list[jax.Array]:
        """The maps that the heads read, from the finest to the coarsest."""
        features = self.backbone(images, train)
        return features + self.extras(features[-1], train)

    def __call__(self, images: jax.Array, train: bool = False) -> tuple[jax.Array, jax.Array]:
        """Preprocessed `[batch, size, size, 3]` to offsets `[batch, boxes, 4]` and logits
        `[batch, boxes, classes + 1]`, where class 0 is background."""
        return self.heads(self.feature_maps(images, train), train)
