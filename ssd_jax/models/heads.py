"""What SSD adds to a backbone: smaller feature maps, and predictions from each of them."""

import functools
from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from ssd_jax.models.layers import ConvBlock, convolve, relu, scaled


class SeparableBlock(nnx.Module):
    """A convolution on each channel, then 1×1: SSDLite's in place of a full one.

    Both have batch norm and end in ReLU6, with `linear` the first alone.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel: int,
        *,
        stride: int,
        padding: int,
        linear: bool,
        **shared,
    ):
        self.depthwise = ConvBlock(
            in_channels,
            in_channels,
            kernel,
            stride=stride,
            padding=padding,
            depthwise=True,
            **shared,
        )
        if linear:
            shared["activation"] = None
        self.pointwise = ConvBlock(in_channels, out_channels, 1, **shared)

    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        return self.pointwise(self.depthwise(x, train), train)


class SeparableHead(nnx.Module):
    """A 3×3 convolution on each channel with batch norm and ReLU6, then 1×1 with bias."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        kernel_init: nnx.Initializer,
        dtype: jnp.dtype,
        rngs: nnx.Rngs,
    ):
        self.depthwise = ConvBlock(
            in_channels,
            in_channels,
            3,
            padding=1,
            depthwise=True,
            batch_norm=True,
            activation=nnx.relu6,
            kernel_init=nnx.initializers.xavier_uniform(),
            dtype=dtype,
            rngs=rngs,
        )
        self.pointwise = nnx.Conv(
            in_channels,
            out_channels,
            (1, 1),
            strides=(1, 1),
            padding=0,
            kernel_dilation=(1, 1),
            kernel_init=kernel_init,
            dtype=dtype,
            rngs=rngs,
        )

    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        return convolve(self.depthwise(x, train), self.pointwise)


class ExtraBlock(NamedTuple):
    """One added feature map: a 1×1 convolution that narrows, then one that shrinks the map."""

    narrow_channels: int
    channels: int
    kernel: int
    stride: int
    padding: int


class ExtraLayers(nnx.Module):
    """The added feature maps conv8, conv9, …, each computed from the one before it.

    With `separable` they are those of SSDLite; see `SeparableBlock` for `linear`.
    """

    def __init__(
        self,
        in_channels: int,
        blocks: Sequence[ExtraBlock],
        *,
        width: float,
        batch_norm: bool,
        separable: bool,
        linear: bool,
        dtype: jnp.dtype,
        rngs: nnx.Rngs,
    ):
        shared = dict(
            batch_norm=batch_norm,
            activation=nnx.relu6 if separable else relu,
            kernel_init=nnx.initializers.xavier_uniform(),
            dtype=dtype,
            rngs=rngs,
        )
        narrow, shrink, out_channels = [], [], []
        for block in blocks:
            narrow_channels = scaled(block.narrow_channels, width)
            channels = scaled(block.channels, width)
            narrow.append(ConvBlock(in_channels, narrow_channels, 1, **shared))
            if separable:
                shrink_block = functools.partial(SeparableBlock, linear=linear)
            else:
                shrink_block = ConvBlock
            shrink.append(
                shrink_block(
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
    """Two 3×3 convolutions on every feature map that has boxes: their offsets and class logits.

    With `separable` each is a `SeparableHead`.
    """

    def __init__(
        self,
        in_channels: Sequence[int],
        boxes_per_cell: Sequence[int],
        num_logits: int,
        *,
        separable: bool,
        kernel_init: nnx.Initializer,
        dtype: jnp.dtype,
        rngs: nnx.Rngs,
    ):
        shared = dict(kernel_init=kernel_init, dtype=dtype, rngs=rngs)
        if separable:
            head = SeparableHead
        else:
            head = functools.partial(
                nnx.Conv, kernel_size=(3, 3), strides=(1, 1), padding=1, kernel_dilation=(1, 1)
            )

        def heads(outputs_per_box):
            return nnx.List(
                head(channels, boxes * outputs_per_box, **shared) if boxes else None
                for channels, boxes in zip(in_channels, boxes_per_cell, strict=True)
            )

        self.offsets, self.logits = heads(4), heads(num_logits)
        self.num_logits = num_logits
        self.separable = separable

    def __call__(self, features: Sequence[jax.Array], train: bool) -> tuple[jax.Array, jax.Array]:
        """Feature maps to `[batch, boxes, 4]` and `[batch, boxes, num_logits]`, float32.

        Boxes come in the order of `default_boxes`: map, row, column, box of the cell.
        """
        offsets, logits = [], []
        for feature, *heads in zip(features, self.offsets, self.logits, strict=True):
            if heads[0] is None:
                continue
            if self.separable:
                outputs = [head(feature, train) for head in heads]
            else:
                widths = [head.out_features for head in heads]
                outputs = jnp.split(convolve(feature, *heads), np.cumsum(widths)[:-1], axis=-1)
            offsets.append(outputs[0].reshape(feature.shape[0], -1, 4))
            logits.append(outputs[1].reshape(feature.shape[0], -1, self.num_logits))
        return tuple(
            jnp.concatenate(outputs, axis=1).astype(jnp.float32) for outputs in (offsets, logits)
        )
