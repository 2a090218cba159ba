"""SSD: a backbone, extra feature maps, and heads on all of them (paper section 2.1)."""

import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import NamedTuple, Protocol

import jax
from flax import nnx
from jaxtyping import Array, Float, Float32

from ssd_jax.config.schema import ModelConfig
from ssd_jax.models import mobilenet_v3
from ssd_jax.models.heads import ExtraBlock, ExtraLayers, PredictionHeads
from ssd_jax.models.layers import NORM, ConvOptions, NormOptions, relu
from ssd_jax.models.mobilenet_v2 import MobileNetV2
from ssd_jax.models.preprocess import (
    CAFFE,
    IMAGENET,
    KERAS,
    MMDETECTION,
    TENSORFLOW,
    InputRange,
)
from ssd_jax.models.resnet import ResNet50
from ssd_jax.models.vgg import VGG16


class BackboneModule(Protocol):
    """A module that computes feature maps, and the number of their channels."""

    out_channels: tuple[int, ...]

    def __call__(self, x: jax.Array, train: bool) -> list[jax.Array]: ...


class Backbone(NamedTuple):
    """A backbone of SSD.

    Attributes:
      make: makes the module from `width`, `batch_norm`, `dtype` and `rngs`. Called with images
        `[batch, size, size, 3]` and `train`, the module gives its feature maps from the finest to
        the coarsest; its `out_channels` holds their channels.
      num_maps: the number of its feature maps.
      input_range: of its input.
      needs_batch_norm: whether it cannot be trained without batch norm.
      norm: options of its batch norm, which the layers after it share.
    """

    make: Callable[..., "BackboneModule"]
    num_maps: int
    input_range: InputRange
    needs_batch_norm: bool
    norm: NormOptions = NORM


BACKBONES = {
    "vgg16": Backbone(VGG16, 2, CAFFE, False),
    "vgg16_mmdetection": Backbone(VGG16, 2, MMDETECTION, False),
    "vgg16_whole": Backbone(functools.partial(VGG16, atrous=False), 3, CAFFE, False),
    "resnet50": Backbone(ResNet50, 1, IMAGENET, True),
    "resnet50_keras": Backbone(functools.partial(ResNet50, stride_first=True), 1, KERAS, True),
    "mobilenet_v2": Backbone(MobileNetV2, 2, IMAGENET, True),
    "mobilenet_v2_narrow": Backbone(
        functools.partial(MobileNetV2, widened=False), 2, IMAGENET, True
    ),
    "mobilenet_v2_tensorflow": Backbone(
        functools.partial(MobileNetV2, same_padding=True), 2, TENSORFLOW, True
    ),
    "mobilenet_v2_stride_8": Backbone(functools.partial(MobileNetV2, finest=8), 3, IMAGENET, True),
    "mobilenet_v2_tensorflow_stride_8": Backbone(
        functools.partial(MobileNetV2, finest=8, same_padding=True), 3, TENSORFLOW, True
    ),
    "mobilenet_v3": Backbone(mobilenet_v3.MobileNetV3, 2, TENSORFLOW, True, mobilenet_v3.NORM),
}


class SSD(nnx.Module):
    """The whole network.

    Args:
      settings: `config.model`; `width` multiplies the channels of every layer except the heads'
        outputs, and `batch_norm` is for every convolution except the heads'.
      boxes_per_cell: default boxes on a cell of each feature map, the backbone's first.
      num_classes: classes without the background.
      dtype: of the computation; parameters and outputs are float32.
      rngs: the random numbers that parameters start from.
    """

    def __init__(
        self,
        settings: ModelConfig,
        boxes_per_cell: Sequence[int],
        num_classes: int,
        *,
        dtype: jax.typing.DTypeLike,
        rngs: nnx.Rngs,
    ) -> None:
        batch_norm, separable = settings.batch_norm, settings.separable
        backbone = BACKBONES[settings.backbone]
        self.backbone = backbone.make(
            width=settings.width, batch_norm=batch_norm, dtype=dtype, rngs=rngs
        )
        options = ConvOptions(
            batch_norm=batch_norm,
            activation=nnx.relu6 if separable else relu,
            kernel_init=nnx.initializers.xavier_uniform(),
            dtype=dtype,
            rngs=rngs,
            norm=backbone.norm,
        )
        self.extras = ExtraLayers(
            self.backbone.out_channels[-1],
            [ExtraBlock(*block) for block in settings.extra_blocks],
            options,
            width=settings.width,
            separable=separable,
            linear=settings.linear_extras,
        )
        self.heads = PredictionHeads(
            self.backbone.out_channels + self.extras.out_channels,
            boxes_per_cell,
            num_classes + 1,
            separable=separable,
            # Xavier as in Caffe. A network from scratch starts with small weights, because its
            # first steps would only remove the noise of large ones.
            kernel_init=(
                nnx.initializers.normal(0.01) if batch_norm else nnx.initializers.xavier_uniform()
            ),
            options=dataclasses.replace(options, batch_norm=True),
        )

    def feature_maps(
        self, images: Float[Array, "batch size size 3"], train: bool = False
    ) -> list[Float[Array, "batch _ _ _"]]:
        """Computes the feature maps for the heads, from the finest to the coarsest."""
        features = self.backbone(images, train)
        return features + self.extras(features[-1], train)

    def __call__(
        self, images: Float[Array, "batch size size 3"], train: bool = False
    ) -> tuple[Float32[Array, "batch boxes 4"], Float32[Array, "batch boxes classes"]]:
        """Computes offsets and logits, where class 0 is background, from normalised images."""
        return self.heads(self.feature_maps(images, train), train)
