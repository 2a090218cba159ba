"""The names and layouts of the arrays of an SSD in other implementations."""

import re
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from ssd_jax.models import mobilenet_v2, mobilenet_v3, resnet
from ssd_jax.models.vgg import STAGES


class Layout(NamedTuple):
    """The names and the layout of the tensors of an SSD in another implementation.

    Attributes:
      names: prefixes of tensors by our module paths, joined by dots; for L2Norm, which has only one
        array, the full name.
      values_first: whether the channels of a head are ordered by value (the first coordinate of
        every box, then the second, …), not by box.
      background_last: whether the background comes after the classes.
      reads_bgr: whether the first layer reads blue, green, red.
      weight: the name of the kernel of a convolution.
      bias: the name of the bias of a convolution.
      unread: prefixes of tensors in its files that its network does not use.
    """

    names: dict[str, str]
    values_first: bool = False
    background_last: bool = False
    reads_bgr: bool = False
    weight: str = "weight"
    bias: str = "bias"
    unread: tuple[str, ...] = ()


_BACKBONE = (
    *(
        f"backbone.conv{stage}_{index}.conv"
        for stage, channels in enumerate(STAGES, start=1)
        for index in range(1, len(channels) + 1)
    ),
    "backbone.fc6.conv",
    "backbone.fc7.conv",
)
_L2NORM = "backbone.conv4_3_norm.weight"


# The positions of VGG16's convolutions in the layer list of ssd.pytorch and its successors.
_PLACES = (0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 24, 26, 28, 31, 33)


def ssd_pytorch_layout(num_extras: int = 4) -> Layout:
    """The names of ssd.pytorch's SSD300 (amdegroot), or of an SSD512 derived from it."""
    return _layout(
        backbone=[f"vgg.{place}" for place in _PLACES],
        l2norm="L2Norm.weight",
        extras=[f"extras.{i}" for i in range(2 * num_extras)],
        offsets=[f"loc.{i}" for i in range(num_extras + 2)],
        logits=[f"conf.{i}" for i in range(num_extras + 2)],
    )


def ssd_pytorch_backbone_layout() -> Layout:
    """The names of `vgg16_reducedfc.pth`, the initial weights of ssd.pytorch."""
    return Layout(dict(zip(_BACKBONE, map(str, _PLACES), strict=True)))


def mmdetection_layout(num_extras: int = 4) -> Layout:
    """The names of MMDetection's SSD300 (4 extra blocks) and SSD512 (5)."""
    maps = range(num_extras + 2)
    layout = _layout(
        backbone=[f"backbone.features.{place}" for place in _PLACES],
        l2norm="neck.l2_norm.weight",
        extras=[f"neck.extra_layers.{i}.{j}.conv" for i in range(num_extras) for j in (0, 1)],
        offsets=[f"bbox_head.reg_convs.{i}.0" for i in maps],
        logits=[f"bbox_head.cls_convs.{i}.0" for i in maps],
    )
    return layout._replace(background_last=True)


def upgrade_mmdetection(tensors: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Renames the tensors of MMDetection before 2.14 to its later names."""

    def renamed(name: str) -> str:
        if match := re.fullmatch(r"backbone\.extra\.(\d+)\.(\w+)", name):
            index = int(match[1])
            return f"neck.extra_layers.{index // 2}.{index % 2}.conv.{match[2]}"
        if match := re.fullmatch(r"(bbox_head\.(?:cls|reg)_convs\.\d+)\.(weight|bias)", name):
            return f"{match[1]}.0.{match[2]}"
        return name.replace("backbone.l2_norm.", "neck.l2_norm.")

    return {renamed(name): tensor for name, tensor in tensors.items()}


def caffe_layout(num_extras: int = 4) -> Layout:
    """The layers of the authors' SSD300 (4 extra blocks) and SSD512 (5)."""
    extras = [f"conv{i}_{j}" for i in range(6, 6 + num_extras) for j in (1, 2)]
    sources = ["conv4_3_norm", "fc7", *extras[1::2]]
    layout = _layout(
        backbone=[path.split(".")[1] for path in _BACKBONE],
        l2norm="conv4_3_norm.0",
        extras=extras,
        offsets=[f"{source}_mbox_loc" for source in sources],
        logits=[f"{source}_mbox_conf" for source in sources],
    )
    return layout._replace(reads_bgr=True, weight="0", bias="1")


def torchvision_layout() -> Layout:
    """The names of torchvision's `ssd300_vgg16`."""
    places = [f"features.{place}" for place in (0, 2, 5, 7, 10, 12, 14, 17, 19, 21)]
    places += [f"extra.0.{place}" for place in ("1", "3", "5", "7.1", "7.3")]
    return _layout(
        backbone=[f"backbone.{place}" for place in places],
        l2norm="backbone.scale_weight",
        extras=[f"backbone.extra.{i}.{place}" for i in range(1, 5) for place in (0, 2)],
        offsets=[f"head.regression_head.module_list.{i}" for i in range(6)],
        logits=[f"head.classification_head.module_list.{i}" for i in range(6)],
    )


def torchvision_vgg16_layout() -> Layout:
    """The names of the convolutions in torchvision's `vgg16`, without fc6 and fc7."""
    names = (f"features.{place}" for place in _PLACES[:13])
    return Layout(dict(zip(_BACKBONE[:13], names, strict=True)), unread=("classifier.",))


def _layout(
    backbone: Sequence[str],
    l2norm: str,
    extras: Sequence[str],
    offsets: Sequence[str],
    logits: Sequence[str],
) -> Layout:
    """Makes a layout of VGG16 from the names of its layers, in order.

    Extra layers alternate between narrowing and shrinking convolutions.
    """
    names = dict(zip(_BACKBONE, backbone, strict=True))
    names[_L2NORM] = l2norm
    for i, name in enumerate(extras):
        names[f"extras.{('narrow', 'shrink')[i % 2]}.{i // 2}.conv"] = name
    for i in range(len(offsets)):
        names[f"heads.offsets.{i}"] = offsets[i]
        names[f"heads.logits.{i}"] = logits[i]
    return Layout(names)


def _block(ours: str, convolution: str, norm: str) -> dict[str, str]:
    """The names of a convolution with batch norm."""
    return {f"{ours}.conv": convolution, f"{ours}.norm": norm}


def nvidia_layout() -> Layout:
    """The names of NVIDIA's SSD300 with ResNet-50; uvipen's SSD-pytorch has the same."""
    features = "feature_extractor.feature_extractor"
    stages = [f"{features}.{stage}" for stage in (4, 5, 6)]
    names = _resnet50_names(f"{features}.0", f"{features}.1", stages)
    for i in range(5):
        names |= _block(
            f"extras.narrow.{i}", f"additional_blocks.{i}.0", f"additional_blocks.{i}.1"
        )
        names |= _block(
            f"extras.shrink.{i}", f"additional_blocks.{i}.3", f"additional_blocks.{i}.4"
        )
    for i in range(6):
        names[f"heads.offsets.{i}"] = f"loc.{i}"
        names[f"heads.logits.{i}"] = f"conf.{i}"
    return Layout(names, values_first=True)


def uvipen_ssdlite_layout() -> Layout:
    """The names of uvipen's SSDLite with MobileNetV2."""
    names = _mobilenet_v2_names("feature_extractor.feature_extractor")
    for i in range(4):
        theirs = f"additional_blocks.{i}.conv"
        names |= _block(f"extras.narrow.{i}", f"{theirs}.0.0", f"{theirs}.0.1")
        names |= _block(f"extras.shrink.{i}.depthwise", f"{theirs}.1.0", f"{theirs}.1.1")
        names |= _block(f"extras.shrink.{i}.pointwise", f"{theirs}.2", f"{theirs}.3")
    for ours, theirs in (("offsets", "loc"), ("logits", "conf")):
        for i in range(6):
            names |= _block(f"heads.{ours}.{i}.depthwise", f"{theirs}.{i}.0", f"{theirs}.{i}.1")
            names[f"heads.{ours}.{i}.pointwise"] = f"{theirs}.{i}.3"
    # Its files have a seventh pair of heads, which its network does not use.
    return Layout(names, values_first=True, unread=("loc.6.", "conf.6."))


def torchvision_ssdlite_layout() -> Layout:
    """The names of torchvision's `ssdlite320_mobilenet_v3_large`.

    Its backbone is divided into two lists after the layer of the finer map, the first of a block.
    """
    fine = mobilenet_v3.FINE_BLOCK
    before, after = "backbone.features.0", "backbone.features.1"
    blocks = [f"{before}.{i + 1}.block" for i in range(fine)]
    blocks += [f"{after}.0", *(f"{after}.{i}.block" for i in range(1, 3))]
    names = _mobilenet_v3_names(f"{before}.0", blocks, f"{after}.3")
    names |= _block(
        f"backbone.blocks.{fine}.widen", f"{before}.{fine + 1}.0", f"{before}.{fine + 1}.1"
    )
    for i in range(4):
        parts = (f"narrow.{i}", f"shrink.{i}.depthwise", f"shrink.{i}.pointwise")
        for j, part in enumerate(parts):
            theirs = f"backbone.extra.{i}.{j}"
            names |= _block(f"extras.{part}", f"{theirs}.0", f"{theirs}.1")
    for ours, head in (("offsets", "regression"), ("logits", "classification")):
        for i in range(6):
            theirs = f"head.{head}_head.module_list.{i}"
            names |= _block(f"heads.{ours}.{i}.depthwise", f"{theirs}.0.0", f"{theirs}.0.1")
            names[f"heads.{ours}.{i}.pointwise"] = f"{theirs}.1"
    return Layout(names)


def torchvision_mobilenet_v3_layout() -> Layout:
    """The names of the backbone in torchvision's `mobilenet_v3_large`."""
    blocks = [f"features.{i + 1}.block" for i in range(len(mobilenet_v3.BLOCKS))]
    names = _mobilenet_v3_names("features.0", blocks, f"features.{len(blocks) + 1}")
    return Layout(names, unread=("classifier.",))


def torchvision_resnet50_layout() -> Layout:
    """The names of the backbone in torchvision's `resnet50`."""
    stages = [f"layer{stage}" for stage in (1, 2, 3)]
    return Layout(_resnet50_names("conv1", "bn1", stages), unread=("layer4.", "fc."))


def torchvision_mobilenet_v2_layout() -> Layout:
    """The names of the backbone in torchvision's `mobilenet_v2`."""
    return Layout(_mobilenet_v2_names("features"), unread=("classifier.",))


def _resnet50_names(conv1: str, norm1: str, stages: Sequence[str]) -> dict[str, str]:
    """The names of ResNet-50's layers, from the names of the first layer and the three stages."""
    names = _block("backbone.conv1", conv1, norm1)
    number = 0
    for stage, (_, num_blocks, _) in zip(stages, resnet.STAGES, strict=True):
        for index in range(num_blocks):
            ours, theirs = f"backbone.blocks.{number}", f"{stage}.{index}"
            for i, part in enumerate(("narrow", "conv", "widen"), start=1):
                names |= _block(f"{ours}.{part}", f"{theirs}.conv{i}", f"{theirs}.bn{i}")
            if index == 0:
                names |= _block(
                    f"{ours}.shortcut", f"{theirs}.downsample.0", f"{theirs}.downsample.1"
                )
            number += 1
    return names


def _mobilenet_v2_names(features: str) -> dict[str, str]:
    """The names of MobileNetV2's layers, from the prefix of its list of layers."""
    names = _block("backbone.first", f"{features}.0.0", f"{features}.0.1")
    number = 0
    for expansion, _, num_blocks, _ in mobilenet_v2.STAGES:
        for _ in range(num_blocks):
            ours, theirs = f"backbone.blocks.{number}", f"{features}.{number + 1}.conv"
            first = 0
            if expansion > 1:
                names |= _block(f"{ours}.widen", f"{theirs}.0.0", f"{theirs}.0.1")
                first = 1
            names |= _block(f"{ours}.depthwise", f"{theirs}.{first}.0", f"{theirs}.{first}.1")
            names |= _block(f"{ours}.narrow", f"{theirs}.{first + 1}", f"{theirs}.{first + 2}")
            number += 1
    return names | _block("backbone.last", f"{features}.18.0", f"{features}.18.1")


def _mobilenet_v3_names(first: str, blocks: Sequence[str], last: str) -> dict[str, str]:
    """The names of MobileNetV3's layers, from the names of its first and last layer and blocks."""
    names = _block("backbone.first", f"{first}.0", f"{first}.1")
    channels = mobilenet_v3.FIRST_CHANNELS
    for number, (shape, theirs) in enumerate(zip(mobilenet_v3.BLOCKS, blocks, strict=True)):
        ours = f"backbone.blocks.{number}"
        parts = ["widen"] if shape.wide_channels != channels else []
        parts += ["depthwise", "excite", "narrow"] if shape.excite else ["depthwise", "narrow"]
        for place, part in enumerate(parts):
            if part == "excite":
                names[f"{ours}.excite.squeeze"] = f"{theirs}.{place}.fc1"
                names[f"{ours}.excite.expand"] = f"{theirs}.{place}.fc2"
            else:
                names |= _block(f"{ours}.{part}", f"{theirs}.{place}.0", f"{theirs}.{place}.1")
        channels = shape.channels
    return names | _block("backbone.last", f"{last}.0", f"{last}.1")
