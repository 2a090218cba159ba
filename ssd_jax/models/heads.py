"""The parts of SSD after the backbone: smaller feature maps, and predictions from each map."""

import dataclasses
import functools
import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Float, Float32

from ssd_jax.models.convolution import convolve
from ssd_jax.models.layers import ConvBlock, ConvOptions, scaled


class SeparableBlock(nnx.Module):
    """SSDLite's convolution instead of a full one: depthwise, then 1×1.

    Both have batch norm and ReLU6; with `linear` the 1×1 has no activation.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel: int,
        options: ConvOptions,
        *,
        stride: int,
        padding: int,
        linear: bool,
    ) -> None:
        self.depthwise = ConvBlock(
            in_channels,
            in_channels,
            kernel,
            options,
            stride=stride,
            padding=padding,
            depthwise=True,
        )
        if linear:
            options = dataclasses.replace(options, activation=None)
        self.pointwise = ConvBlock(in_channels, out_channels, 1, options)

    def __call__(
        self, x: Float[Array, "batch height width channels"], train: bool
    ) -> Float[Array, "batch new_height new_width new_channels"]:
        return self.pointwise(self.depthwise(x, train), train)


class SeparableHead(nnx.Module):
    """SSDLite's head: depthwise 3×3 with batch norm and ReLU6, then 1×1 with bias."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_init: nnx.Initializer,
        options: ConvOptions,
    ) -> None:
        self.depthwise = ConvBlock(in_channels, in_channels, 3, options, padding=1, depthwise=True)
        self.pointwise = nnx.Conv(
            in_channels,
            out_channels,
            (1, 1),
            strides=(1, 1),
            padding=0,
            kernel_dilation=(1, 1),
            kernel_init=kernel_init,
            dtype=options.dtype,
            rngs=options.rngs,
        )

    def __call__(
        self, x: Float[Array, "batch height width channels"], train: bool
    ) -> Float[Array, "batch height width outputs"]:
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
        options: ConvOptions,
        *,
        width: float,
        separable: bool,
        linear: bool,
    ) -> None:
        narrow, shrink, out_channels = [], [], []
        for block in blocks:
            narrow_channels = scaled(block.narrow_channels, width)
            channels = scaled(block.channels, width)
            narrow.append(ConvBlock(in_channels, narrow_channels, 1, options))
            make = functools.partial(SeparableBlock, linear=linear) if separable else ConvBlock
            shrink.append(
                make(
                    narrow_channels,
                    channels,
                    block.kernel,
                    options,
                    stride=block.stride,
                    padding=block.padding,
                )
            )
            out_channels.append(channels)
            in_channels = channels
        self.narrow, self.shrink = nnx.List(narrow), nnx.List(shrink)
        self.out_channels = tuple(out_channels)

    def __call__(
        self, x: Float[Array, "batch height width channels"], train: bool
    ) -> list[Float[Array, "batch _ _ _"]]:
        """Computes the added feature maps from the backbone's last one."""
        features = []
        for narrow, shrink in zip(self.narrow, self.shrink, strict=True):
            x = shrink(narrow(x, train), train)
            features.append(x)
        return features


class PredictionHeads(nnx.Module):
    """Two 3×3 convolutions on every feature map with boxes, for offsets and class logits.

    With `separable` each is a `SeparableHead`; `options` are those of its depthwise half.
    """

    def __init__(
        self,
        in_channels: Sequence[int],
        boxes_per_cell: Sequence[int],
        num_logits: int,
        *,
        separable: bool,
        kernel_init: nnx.Initializer,
        options: ConvOptions,
    ) -> None:
        def head(channels: int, outputs: int) -> SeparableHead | nnx.Conv:
            if separable:
                return SeparableHead(channels, outputs, kernel_init, options)
            return nnx.Conv(
                channels,
                outputs,
                kernel_size=(3, 3),
                strides=(1, 1),
                padding=1,
                kernel_dilation=(1, 1),
                kernel_init=kernel_init,
                dtype=options.dtype,
                rngs=options.rngs,
            )

        def heads(outputs_per_box: int) -> list[Any]:
            return [
                head(channels, boxes * outputs_per_box) if boxes else None
                for channels, boxes in zip(in_channels, boxes_per_cell, strict=True)
            ]

        self.offsets, self.logits = nnx.List(heads(4)), nnx.List(heads(num_logits))
        self.num_logits = num_logits
        self.separable = separable

    def set_prior(self, prior: float) -> None:
        """Sets the background biases so that every box has an object with probability `prior`.

        Lin et al. 2017, section 4.1, for softmax as in Detectron.
        """
        background = math.log((self.num_logits - 1) * (1 - prior) / prior)
        for head in self.logits:
            if head is not None:
                bias = (head.pointwise if self.separable else head).bias
                by_box = bias.get_value().reshape(-1, self.num_logits)
                bias.set_value(by_box.at[:, 0].set(background).ravel())

    def __call__(
        self, features: Sequence[Float[Array, "batch _ _ _"]], train: bool
    ) -> tuple[Float32[Array, "batch boxes 4"], Float32[Array, "batch boxes classes"]]:
        """Computes offsets and logits from feature maps.

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
        return (
            jnp.concatenate(offsets, axis=1).astype(jnp.float32),
            jnp.concatenate(logits, axis=1).astype(jnp.float32),
        )
