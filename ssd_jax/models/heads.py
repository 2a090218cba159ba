"""What SSD adds to a backbone: smaller feature maps, and predictions from each of them."""

from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx

from ssd_jax.models.layers import ConvBlock, scaled


class ExtraBlock(NamedTuple):
    """One added feature map: a 1×1 convolution that narrows, then one that shrinks the map."""

    narrow_channels: int
    channels: int
    kernel: int
    stride: int
    padding: int


class ExtraLayers(nnx.Module):
    """The added feature maps conv8, conv9, …, each computed from the one before it."""

    def __init__(
        self,
        in_channels: int,
        blocks: Sequence[ExtraBlock],
        *,
        width: float,
        batch_norm: bool,
        dtype: jnp.dtype,
        rngs: nnx.Rngs,
    ):
        shared = dict(
            batch_norm=batch_norm,
            kernel_init=nnx.initializers.xavier_uniform(),
            dtype=dtype,
            rngs=rngs,
        )
        narrow, shrink, out_channels = [], [], []
        for block in blocks:
            narrow_channels = scaled(block.narrow_channels, width)
            channels = scaled(block.channels, width)
            narrow.append(ConvBlock(in_channels, narrow_channels, 1, **shared))
            shrink.append(
                ConvBlock(
                    narrow_channels,
                    channels,
                    block.kernel,
                    stride=block.stride,
                    padding=block.padding,
                    **shared,
                )
            )
            out_channels.append(channels)
            in_channels = channels
        self.narrow, self.shrink = nnx.List(narrow), nnx.List(shrink)
        self.out_channels = tuple(out_channels)

    def __call__(self, x: jax.Array, train: bool) -> list[jax.Array]:
        """The last feature map of the backbone to all the added ones."""
        features = []
        for narrow, shrink in zip(self.narrow, self.shrink, strict=True):
            x = shrink(narrow(x, train), train)
            features.append(x)
        return features


class PredictionHeads(nnx.Module):
    """Two 3×3 convolutions on every feature map: box offsets and class logits."""

    def __init__(
        self,
        in_channels: Sequence[int],
        boxes_per_cell: Sequence[int],
        num_logits: int,
        *,
        kernel_init: nnx.Initializer,
        dtype: jnp.dtype,
        rngs: nnx.Rngs,
    ):
        def convolutions(outputs_per_box):
            return nnx.List(
                nnx.Conv(
                    channels,
                    boxes * outputs_per_box,
                    (3, 3),
                    padding=1,
                    kernel_init=kernel_init,
                    dtype=dtype,
                    rngs=rngs,
                )
                for channels, boxes in zip(in_channels, boxes_per_cell, strict=True)
            )

        self.offsets, self.logits = convolutions(4), convolutions(num_logits)
        self.num_logits = num_logits

    def __call__(self, features: Sequence[jax.Array]) -> tuple[jax.Array, jax.Array]:
        """Feature maps to `[batch, boxes, 4]` and `[batch, boxes, num_logits]`, float32.

        Boxes come in the order of `default_boxes`: map, row, column, box of the cell.
        """

        def predict(convolutions, outputs_per_box):
            return jnp.concatenate(
                [
                    convolution(feature).reshape(feature.shape[0], -1, outputs_per_box)
                    for convolution, feature in zip(convolutions, features, strict=True)
                ],
                axis=1,
            ).astype(jnp.float32)

        return predict(self.offsets, 4), predict(self.logits, self.num_logits)
