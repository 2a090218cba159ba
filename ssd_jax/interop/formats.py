"""Reads weights of other implementations, under our names: `FORMAT:FILE`."""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ssd_jax.data.class_lists import KNOWN, TORCHVISION_COCO
from ssd_jax.errors import UserError
from ssd_jax.interop import pytorch_layouts as layouts
from ssd_jax.interop.keras_weights import APPLICATIONS, arrays_from_keras, load_application
from ssd_jax.interop.published_weights import FILES, published_file
from ssd_jax.interop.pytorch_layouts import Layout
from ssd_jax.interop.renaming import rename
from ssd_jax.interop.transfer import Arrays, flatten
from ssd_jax.interop.weight_files import read_weights
from ssd_jax.models.network import Network

FORMATS = ("keras", "ssd.pytorch", "torchvision", "nvidia", "uvipen", "mmdetection", "caffe")

_VGG16 = ("vgg16", "vgg16_mmdetection")
_MOBILENET_V2 = (
    "mobilenet_v2",
    "mobilenet_v2_narrow",
    "mobilenet_v2_stride_8",
    "mobilenet_v2_tensorflow",
    "mobilenet_v2_tensorflow_stride_8",
)


class Foreign(NamedTuple):
    """Weights of another implementation.

    Attributes:
      arrays: the arrays by our paths.
      class_names: the classes of the classifiers, in order; empty for a backbone without them.
      missing: tensors of the layout that are not in the file.
      left_over: tensors of the file that our network does not have.
    """

    arrays: Arrays
    class_names: tuple[str, ...]
    missing: list[str]
    left_over: list[str]


def read_format(kind: str, file: str, network: Network, class_names: Sequence[str] = ()) -> Foreign:
    """Reads weights.

    Args:
      kind: one of `FORMATS`.
      file: see `read_weights`; for keras "imagenet" or a file of Keras; for torchvision also
        "imagenet" and "coco", its published weights for the backbone of the network.
      network: a network of the same config, with any number of classes.
      class_names: the classes of the weights; if empty, those of VOC or COCO, by their number.

    Raises:
      UserError: the file cannot be read, belongs to another network, or has unknown classes.
    """
    if kind == "keras":
        _check_backbone(kind, network, tuple(APPLICATIONS))
        model = load_application(network.settings.backbone, file, _num_bytes(network))
        return Foreign(arrays_from_keras(model, network.settings.backbone), (), [], [])

    published = file if kind == "torchvision" and file in FILES else None
    if published:
        _check_backbone(f"{kind}:{file}", network, tuple(FILES[published]))
        file = str(published_file(published, network.settings.backbone))
    elif kind == "torchvision" and not Path(file).suffix:
        raise UserError(
            f"weights of torchvision are {file!r}, but must be {', '.join(FILES)} or a file"
        )
    tensors = read_weights(file, _num_bytes(network))
    if kind == "mmdetection":
        tensors = layouts.upgrade_mmdetection(tensors)
    layout = _find_layout(kind, tensors, network)
    if published == "coco":
        # The number of classes cannot be computed: our number of boxes per cell may differ.
        class_names = TORCHVISION_COCO
        num_classes = len(class_names)
    else:
        num_classes = _num_classes(tensors, layout, network)
    if num_classes is None:
        class_names = ()
    else:
        class_names = tuple(class_names) or KNOWN.get(num_classes, ())
        if len(class_names) != num_classes:
            raise UserError(
                f"{file} has {num_classes} classes, but {len(class_names)} names of classes are "
                "known: import it with ssd-jax import, with the names in --classes or "
                "config.data.classes, and start a run from that work directory"
            )
        network = dataclasses.replace(network, num_classes=num_classes)
    renamed = rename(tensors, layout, network.variable_shapes(), network.tiling.boxes_per_cell)
    missing = [
        theirs
        for path, theirs in renamed.their_names.items()
        if path not in renamed.arrays and theirs.replace(".", "/") != path
    ]
    return Foreign(renamed.arrays, class_names, missing, renamed.left_over)


def _num_bytes(network: Network) -> int:
    """The size of the arrays of a network, in bytes."""
    shapes = flatten(network.variable_shapes()).values()
    return sum(math.prod(shape.shape) * shape.dtype.itemsize for shape in shapes)


def _find_layout(kind: str, tensors: Mapping[str, np.ndarray], network: Network) -> Layout:
    """The layout of a file: of the whole network, or of its backbone only."""
    num_extras = len(network.settings.extra_blocks)
    if kind == "ssd.pytorch":
        _check_backbone(kind, network, _VGG16)
        if any(name.startswith("vgg.") for name in tensors):
            return layouts.ssd_pytorch_layout(num_extras)
        return layouts.ssd_pytorch_backbone_layout()
    if kind == "torchvision":
        return _find_torchvision_layout(tensors, network)
    if kind == "mmdetection":
        _check_backbone(kind, network, _VGG16)
        return layouts.mmdetection_layout(num_extras)
    if kind == "caffe":
        _check_backbone(kind, network, _VGG16)
        return layouts.caffe_layout(num_extras)
    if network.settings.backbone in _MOBILENET_V2 and kind == "uvipen":
        return layouts.uvipen_ssdlite_layout()
    _check_backbone(
        kind, network, ("resnet50",) if kind == "nvidia" else ("resnet50", *_MOBILENET_V2)
    )
    return layouts.nvidia_layout()


def _find_torchvision_layout(tensors: Mapping[str, np.ndarray], network: Network) -> Layout:
    backbone = network.settings.backbone
    if any(name.startswith("backbone.") for name in tensors):
        _check_backbone("torchvision", network, (*_VGG16, "mobilenet_v3"))
        if backbone == "mobilenet_v3":
            return layouts.torchvision_ssdlite_layout()
        return layouts.torchvision_layout()
    known = (*_VGG16, "vgg16_whole", "resnet50", *_MOBILENET_V2, "mobilenet_v3")
    _check_backbone("torchvision", network, known)
    if backbone == "resnet50":
        return layouts.torchvision_resnet50_layout()
    if backbone in _MOBILENET_V2:
        return layouts.torchvision_mobilenet_v2_layout()
    if backbone == "mobilenet_v3":
        return layouts.torchvision_mobilenet_v3_layout()
    return layouts.torchvision_vgg16_layout()


def _check_backbone(kind: str, network: Network, fitting: Sequence[str]) -> None:
    if network.settings.backbone not in fitting:
        raise UserError(
            f"weights of {kind} are for the backbone {', '.join(fitting)}, not for "
            f"{network.settings.backbone}: set config.model.backbone, or start from scratch with "
            "--config.init="
        )


def _num_classes(tensors: Mapping[str, np.ndarray], layout: Layout, network: Network) -> int | None:
    """The number of classes of the classifiers in a file, without background."""
    for i, boxes in enumerate(network.tiling.boxes_per_cell):
        for module in (f"heads.logits.{i}", f"heads.logits.{i}.pointwise"):
            bias = tensors.get(f"{layout.names.get(module)}.{layout.bias}")
            if bias is not None and boxes and bias.ndim == 1 and len(bias) % boxes == 0:
                return len(bias) // boxes - 1
    return None
