"""Turns a trained detector into files that run elsewhere."""

from pathlib import Path
from typing import Any

import jax
import jax.export
import jax.numpy as jnp
import numpy as np
import safetensors.numpy

from ssd_jax.data.class_lists import describe_classes
from ssd_jax.detection.postprocess import Detections, best_detections, score_boxes
from ssd_jax.errors import UserError, check_installed
from ssd_jax.interop.pytorch_layouts import (
    ssd_pytorch_layout,
    torchvision_layout,
    torchvision_ssdlite_layout,
)
from ssd_jax.interop.renaming import to_pytorch
from ssd_jax.interop.trained import Trained, save_folder
from ssd_jax.models.convolution import plain_convolutions
from ssd_jax.storage.checksums import CHECKSUMS_FILE, write_checksums
from ssd_jax.storage.files import local_path, write_bytes, write_json
from ssd_jax.storage.outputs import check_outputs
from ssd_jax.storage.replacing import replacing_files

FORMATS = ("safetensors", "stablehlo", "onnx", "ssd.pytorch", "torchvision")
PLATFORMS = ("cpu", "cuda", "tpu")


def check_export_format(kind: str) -> None:
    """Raises a `UserError` where a format is not one of `FORMATS`."""
    if kind not in FORMATS:
        raise UserError(f"--to is {kind!r}, but must be one of {', '.join(FORMATS)}")


def export(kind: str, trained: Trained, output: str) -> None:
    """Writes a folder with a trained detector, and the checksums of its files.

    Args:
      kind: one of `FORMATS`.
      trained: the detector.
      output: the folder to write.

    Raises:
      UserError: there is no such format, it cannot hold the network, or the folder is the work
        directory of a run, or lies among its files.
    """
    check_export_format(kind)
    folder = local_path(output)
    if kind == "safetensors":
        save_folder(trained, folder)
        return
    check_outputs(folder / "classes.json")
    tensors = {} if kind in ("stablehlo", "onnx") else state_dict(trained, kind)
    with replacing_files(folder, last=CHECKSUMS_FILE) as unfinished:
        if kind == "stablehlo":
            write_bytes(unfinished / "detector.stablehlo", to_stablehlo(trained))
        elif kind == "onnx":
            to_onnx(trained, unfinished)
            np.save(unfinished / "default_boxes.npy", trained.network.default_boxes())
        else:
            # Written by safetensors itself, the file could be read by its owner alone.
            write_bytes(unfinished / "model.safetensors", safetensors.numpy.save(tensors))
        classes = describe_classes(trained.class_names, trained.category_ids)
        write_json(unfinished / "classes.json", classes)
        write_checksums(unfinished, sorted(file.name for file in unfinished.iterdir()))


def to_stablehlo(trained: Trained) -> bytes:
    """One function from images to detections that JAX alone can run: see `jax.export`.

    It takes `[batch, size, size, 3]` uint8 RGB, any number of images, and returns `boxes` (xyxy in
    [0, 1]), `scores` and `labels` (from 1; 0 = none), the best first.
    """

    def detect(images: jax.Array) -> dict[str, jax.Array]:
        return _detections(trained, *_outputs(trained, images))._asdict()

    (batch,) = jax.export.symbolic_shape("batch")
    with plain_convolutions():
        exported = jax.export.export(jax.jit(detect), platforms=PLATFORMS)(_images(trained, batch))
    return bytes(exported.serialize())


def to_onnx(trained: Trained, folder: Path) -> None:
    """See `write_onnx`.

    Raises:
      UserError: the package `onnx` is not installed.
    """
    check_installed("onnx")
    from ssd_jax.interop.onnx_detector import write_onnx

    write_onnx(trained, folder)


def _images(trained: Trained, batch: Any) -> jax.ShapeDtypeStruct:
    """The shape of `batch` uint8 images; a number, or a symbol of `jax.export`."""
    size = trained.network.tiling.image_size
    return jax.ShapeDtypeStruct((batch, size, size, 3), jnp.uint8)


def _outputs(trained: Trained, images: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Offsets and logits of uint8 images."""
    normalised = trained.network.normalise(images)
    outputs, _ = trained.network.apply(*trained.variables, normalised, train=False)
    return outputs


def _detections(trained: Trained, offsets: jax.Array, logits: jax.Array) -> Detections:
    """Detections, clipped to images, of `[..., boxes, 4]` and `[..., boxes, classes + 1]`."""
    found = best_detections(
        *score_boxes(offsets, logits, trained.network.default_boxes()),
        trained.config.detection,
    )
    return found._replace(boxes=jnp.clip(found.boxes, 0, 1))


def state_dict(trained: Trained, kind: str) -> dict[str, np.ndarray]:
    """The tensors of a detector as ssd.pytorch or torchvision names them.

    Raises:
      UserError: the layout has no place for the network.
    """
    network = trained.network
    settings = network.settings
    num_extras = len(settings.extra_blocks)
    is_vgg16 = settings.backbone == "vgg16" and not settings.batch_norm and not settings.separable
    is_lite = (
        settings.backbone == "mobilenet_v3" and settings.separable and not settings.linear_extras
    )
    if kind == "ssd.pytorch":
        if not is_vgg16:
            raise UserError(f"{kind} has a place for an SSD with VGG16 without batch norm alone")
        layout = ssd_pytorch_layout(num_extras)
    else:
        if not (is_vgg16 or is_lite) or num_extras != 4:
            raise UserError(
                f"{kind} has a place for an SSD300 with VGG16 without batch norm, and for an "
                "SSDLite with MobileNetV3, alone"
            )
        layout = torchvision_layout() if is_vgg16 else torchvision_ssdlite_layout()
    return to_pytorch(trained.variables, layout, network.tiling.boxes_per_cell)
