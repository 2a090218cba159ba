"""Weights of whole SSDs under the names that PyTorch implementations give them."""

import re
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import jax
import numpy as np

from ssd_jax.interop.transfer import Arrays
from ssd_jax.models import mobilenet_v2, resnet
from ssd_jax.models.network import Variables, path_name
from ssd_jax.models.vgg import STAGES


class Layout(NamedTuple):
    """How an implementation stores an SSD.

    Attributes:
      names: our module paths, dots between names, to the prefix of its tensors; the weight of
        L2Norm, which has nothing else, to its full name.
      values_first: whether the channels of a head are values of boxes (all first coordinates, all
        second ones, …) and not boxes of values.
      background_last: whether the background comes after the classes, not before them.
      reads_bgr: whether the first layer reads blue, green, red.
      weight: what it calls the kernels of convolutions.
      bias: what it calls their biases.
      unread: prefixes of tensors that its network holds but does not use.
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


# Where ssd.pytorch and those after it have VGG16's convolutions in their list of layers.
_PLACES = (0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 24, 26, 28, 31, 33)


def ssd_pytorch_layout(num_extras: int = 4) -> Layout:
    """The names of ssd.pytorch's SSD300 (amdegroot), or of an SSD512 made of it."""
    return _layout(
        backbone=[f"vgg.{place}" for place in _PLACES],
        l2norm="L2Norm.weight",
        extras=[f"extras.{i}" for i in range(2 * num_extras)],
        offsets=[f"loc.{i}" for i in range(num_extras + 2)],
        logits=[f"conf.{i}" for i in range(num_extras + 2)],
    )


def ssd_pytorch_backbone_layout() -> Layout:
    """The names of `vgg16_reducedfc.pth`, from which ssd.pytorch starts."""
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
    """The tensors of an MMDetection before 2.14 under its later names; later ones as they are."""

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
    """The names of the convolutions in torchvision's `vgg16`, of which fc6 and fc7 are no part."""
    names = (f"features.{place}" for place in _PLACES[:13])
    return Layout(dict(zip(_BACKBONE[:13], names, strict=True)), unread=("classifier.",))


def _layout(
    backbone: Sequence[str],
    l2norm: str,
    extras: Sequence[str],
    offsets: Sequence[str],
    logits: Sequence[str],
) -> Layout:
    """A layout from the names of its parts in order; the extra layers narrow and shrink in turn."""
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
    """The names of NVIDIA's SSD300 with ResNet-50, which uvipen's SSD-pytorch shares."""
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
    # It has a seventh pair of heads, which nothing reads.
    return Layout(names, values_first=True, unread=("loc.6.", "conf.6."))


def torchvision_resnet50_layout() -> Layout:
    """The names of the backbone in torchvision's `resnet50`."""
    stages = [f"layer{stage}" for stage in (1, 2, 3)]
    return Layout(_resnet50_names("conv1", "bn1", stages), unread=("layer4.", "fc."))


def torchvision_mobilenet_v2_layout() -> Layout:
    """The names of the backbone in torchvision's `mobilenet_v2`."""
    return Layout(_mobilenet_v2_names("features"), unread=("classifier.",))


def _resnet50_names(conv1: str, norm1: str, stages: Sequence[str]) -> dict[str, str]:
    """The backbone's, from those of the first layer and of the three stages."""
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
    """The backbone's, from that of the list of its layers."""
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


class Renamed(NamedTuple):
    """Tensors of PyTorch under our names.

    Attributes:
      arrays: by our paths, laid out as ours.
      their_names: by our paths, what each array of the network is called there.
      left_over: names of tensors for which the network has no place.
    """

    arrays: Arrays
    their_names: dict[str, str]
    left_over: list[str]


def rename(
    tensors: Mapping[str, np.ndarray],
    layout: Layout,
    variables: tuple[Variables, Variables],
    boxes_per_cell: Sequence[int],
) -> Renamed:
    """Finds the tensors of a network's arrays.

    Args:
      tensors: a state dict as NumPy arrays.
      layout: how its tensors are stored.
      variables: of the network; only structure and shapes matter.
      boxes_per_cell: of the network's tiling.
    """
    arrays, their_names, used = {}, {}, set()
    for (_, *path), variable in jax.tree_util.tree_flatten_with_path(variables)[0]:
        *module, leaf = (str(key.key) for key in path)
        name = _tensor_name(layout, module, leaf)
        their_names[path_name(path)] = name
        used.add(name)
        if name not in tensors:
            continue
        value = tensors[name]
        if leaf == "kernel" and value.ndim == 4:
            value = value.transpose(2, 3, 1, 0)
            if layout.reads_bgr and value.shape[2] == 3:
                value = value[:, :, ::-1]
        elif layout.names.get(".".join((*module, leaf))) == name:
            value = value.reshape(-1)  # L2Norm: Caffe keeps it in four dimensions
        if leaf == "mean":
            # Batch norm takes away what a bias of the convolution before it adds.
            bias = _tensor_name(layout, [*module[:-1], "conv"], "bias")
            used.add(bias)
            value = value - tensors.get(bias, 0)
        if (
            layout.values_first
            and module[0] == "heads"
            and "depthwise" not in module
            and value.shape == variable.shape
        ):
            boxes = boxes_per_cell[int(module[2])]
            by_value = value.reshape(*value.shape[:-1], -1, boxes)
            value = by_value.swapaxes(-1, -2).reshape(value.shape)
        if (
            layout.background_last
            and module[:2] == ["heads", "logits"]
            and value.shape == variable.shape
        ):
            boxes = boxes_per_cell[int(module[2])]
            by_box = value.reshape(*value.shape[:-1], boxes, -1)
            value = np.roll(by_box, 1, axis=-1).reshape(value.shape)
        arrays[path_name(path)] = value
    left_over = sorted(
        name
        for name in set(tensors) - used
        # How many batches a batch norm has seen is of no use.
        if not (name.endswith("num_batches_tracked") or name.startswith(layout.unread))
    )
    return Renamed(arrays, their_names, left_over)


def to_pytorch(
    variables: tuple[Variables, Variables], layout: Layout, boxes_per_cell: Sequence[int]
) -> dict[str, np.ndarray]:
    """A network's arrays as the tensors of a layout: what `rename` undoes, bit for bit.

    Args:
      variables: parameters and batch statistics.
      layout: how the tensors are to be stored.
      boxes_per_cell: of the network's tiling.
    """
    tensors = {}
    for (_, *path), variable in jax.tree_util.tree_flatten_with_path(variables)[0]:
        *module, leaf = (str(key.key) for key in path)
        value = np.asarray(variable)
        boxes = boxes_per_cell[int(module[2])] if module[0] == "heads" else 0
        if layout.background_last and module[:2] == ["heads", "logits"]:
            by_box = value.reshape(*value.shape[:-1], boxes, -1)
            value = np.roll(by_box, -1, axis=-1).reshape(value.shape)
        if layout.values_first and boxes and "depthwise" not in module:
            by_box = value.reshape(*value.shape[:-1], boxes, -1)
            value = by_box.swapaxes(-1, -2).reshape(value.shape)
        if leaf == "kernel":
            if layout.reads_bgr and value.shape[2] == 3:
                value = value[:, :, ::-1]
            value = value.transpose(3, 2, 0, 1)
        tensors[_tensor_name(layout, module, leaf)] = np.ascontiguousarray(value)
    return tensors


def _tensor_name(layout: Layout, module: Sequence[str], leaf: str) -> str:
    """What the layout calls an array of ours; our own name where it has none."""
    path = ".".join(module)
    whole = f"{path}.{leaf}"
    if path in layout.names:
        theirs = {
            "kernel": layout.weight,
            "scale": "weight",
            "bias": layout.bias,
            "mean": "running_mean",
            "var": "running_var",
        }
        return f"{layout.names[path]}.{theirs[leaf]}"
    return layout.names.get(whole, whole)
