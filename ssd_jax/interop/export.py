"""Exports a trained detector to files for other programs."""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.export
import jax.numpy as jnp
import numpy as np
import safetensors.numpy

from ssd_jax.data.class_lists import describe_classes
from ssd_jax.detection.postprocess import Detections, best_detections, score_boxes
from ssd_jax.errors import UserError, check_installed
from ssd_jax.interop.hub import ModelCard, save_for_hub
from ssd_jax.interop.pytorch_layouts import (
    ssd_pytorch_layout,
    torchvision_layout,
    torchvision_ssdlite_layout,
)
from ssd_jax.interop.renaming import to_pytorch
from ssd_jax.interop.trained import Trained, save_folder
from ssd_jax.models.convolution import plain_convolutions
from ssd_jax.storage.checksums import CHECKSUMS_FILE, write_checksums
from ssd_jax.storage.copies import name_of, sending
from ssd_jax.storage.files import AnyPath, write_bytes, write_json
from ssd_jax.storage.outputs import check_outputs_in
from ssd_jax.storage.replacing import replacing_files

FORMATS = (
    "safetensors",
    "hf",
    "stablehlo",
    "onnx",
    "tflite",
    "saved_model",
    "ssd.pytorch",
    "torchvision",
)
PAGE = "web"  # an ONNX file in a page; written by `inference/page/exported.py`
LICENSED = ("hf", "onnx", "tflite", "saved_model", PAGE)  # formats that describe their content
# The precisions of formats with a choice.
PRECISIONS = {kind: ("float32", "float16", "int8") for kind in ("onnx", "tflite", PAGE)}
# The packages for each format of other engines.
NEEDED = {
    "onnx": ("onnx",),
    "tflite": ("ai_edge_litert", "tensorflow"),
    "saved_model": ("tensorflow",),
}
PLATFORMS = ("cpu", "cuda", "tpu")


class Choices(NamedTuple):
    """The options of an export.

    Attributes:
      precision: the precision of weights and activations, one of the format's `PRECISIONS`; ""
        for the first one, or for formats without a choice.
      calibration: the data set with which int8 measures the ranges of activations; see
        `calibration_images`.
      license_name: the licence of the detector, like "apache-2.0", for formats that are
        `LICENSED`; "" if not stated.
    """

    precision: str = ""
    calibration: str = ""
    license_name: str = ""


DEFAULT = Choices()


def check_export(kind: str, choices: Choices = DEFAULT) -> None:
    """Checks the options of an export before anything is read.

    Args:
      kind: one of `FORMATS`, or `PAGE`.
      choices: the options.

    Raises:
      UserError: there is no such format, the format lacks the precision or cannot state a licence,
        or only one of int8 and a data set is given.
    """
    precision, calibration, license_name = choices
    if kind not in (*FORMATS, PAGE):
        raise UserError(f"--to is {kind!r}, but must be one of {', '.join((*FORMATS, PAGE))}")
    known = PRECISIONS.get(kind, ())
    if precision and not known:
        raise UserError(
            f"--precision is {precision!r}, but --to={kind} has no choice of precision: leave it "
            f"out, or export to {' or '.join(PRECISIONS)}"
        )
    if precision and precision not in known:
        raise UserError(f"--precision is {precision!r}, but must be one of {', '.join(known)}")
    if precision == "int8" and not calibration:
        raise UserError(
            "--precision=int8 needs images to measure the ranges of activations: add "
            "--calibration=SOURCE with training data, like voc_xml:FOLDER:train"
        )
    if calibration and precision != "int8":
        raise UserError(
            f"--calibration is {calibration!r}, but only --precision=int8 uses it: add that, or "
            "leave --calibration out"
        )
    if license_name and kind not in LICENSED:
        raise UserError(
            f"--license is {license_name!r}, but --to={kind} cannot state it: leave it out, or "
            f"export to {', '.join(LICENSED[:-1])} or {LICENSED[-1]}"
        )


def export(kind: str, trained: Trained, output: AnyPath, choices: Choices = DEFAULT) -> None:
    """Writes a folder with a trained detector, and the checksums of its files.

    Args:
      kind: one of `FORMATS`.
      trained: the detector.
      output: the folder to write.
      choices: the options.

    Raises:
      UserError: see `check_export`; or the format does not support the network, the data set
        cannot be read, or the folder is the work directory of a run, or inside it.
    """
    check_export(kind, choices)
    if kind == PAGE:
        raise UserError(f"{PAGE} is written by ssd_jax.inference.page.exported.export_page")
    if kind == "safetensors":
        return save_folder(trained, output)
    if kind == "hf":
        card = ModelCard(name_of(output), license_name=choices.license_name)
        return save_for_hub(trained, output, card)
    check_outputs_in(output, "classes.json")
    tensors = {} if kind in ("stablehlo", *NEEDED) else state_dict(trained, kind)
    with sending(output) as folder, replacing_files(folder, last=CHECKSUMS_FILE) as unfinished:
        if kind == "stablehlo":
            write_bytes(unfinished / "detector.stablehlo", to_stablehlo(trained))
        elif kind in NEEDED:
            write_for_engines(kind, trained, unfinished, choices)
            if kind != "saved_model":  # a SavedModel always includes suppression
                np.save(unfinished / "default_boxes.npy", trained.network.default_boxes())
        else:
            # Not written by safetensors, which makes files readable only for their owner.
            write_bytes(unfinished / "model.safetensors", safetensors.numpy.save(tensors))
        classes = describe_classes(trained.class_names, trained.category_ids)
        write_json(unfinished / "classes.json", classes)
        write_checksums(unfinished, [file.name for file in unfinished.iterdir()], folder)


def to_stablehlo(trained: Trained) -> bytes:
    """A function from images to detections that needs only JAX; see `jax.export`.

    It takes `[batch, size, size, 3]` uint8 RGB, any number of images, and returns `boxes` (xyxy in
    [0, 1]), `scores` and `labels` (from 1; 0 = none), the best first.
    """

    def detect(images: jax.Array) -> dict[str, jax.Array]:
        return _detections(trained, *_outputs(trained, images))._asdict()

    (batch,) = jax.export.symbolic_shape("batch")
    with plain_convolutions(), _without_folders():
        exported = jax.export.export(jax.jit(detect), platforms=PLATFORMS)(_images(trained, batch))
    return bytes(exported.serialize())


@contextlib.contextmanager
def _without_folders() -> Iterator[None]:
    """A block in which JAX records source files without the folders of this machine."""
    option = "jax_hlo_source_file_canonicalization_regex"
    before = jax.config.values[option]
    jax.config.update(option, ".*/")
    try:
        yield
    finally:
        jax.config.update(option, before)


def write_for_engines(
    kind: str, trained: Trained, folder: Path, choices: Choices = DEFAULT
) -> None:
    """Writes a detector for other engines.

    Args:
      kind: one of `NEEDED`.
      trained: the detector.
      folder: the output folder: see `write_onnx`, `write_tflite` and `write_saved_model`.
      choices: see `export`.

    Raises:
      UserError: a package is not installed, the data set cannot be read, or the format has no
        operator for an operation of the network.
    """
    precision, calibration, license_name = choices
    for package in NEEDED[kind]:
        check_installed(package, f"export to {kind}")
    if kind == "onnx" and precision == "int8":
        check_installed("onnxruntime", "export to int8")
    images = _images_of(trained, calibration)
    if kind == "onnx":
        from ssd_jax.interop.onnx_detector import write_onnx

        write_onnx(trained, folder, precision, images, license_name)
    elif kind == "tflite":
        from ssd_jax.interop.tflite_detector import write_tflite

        write_tflite(trained, folder, precision, images, license_name)
    else:
        from ssd_jax.interop.saved_model import write_saved_model

        write_saved_model(trained, folder, license_name)


def _images_of(trained: Trained, source: str) -> Iterator[np.ndarray] | None:
    """`calibration_images` of a data set; None without one."""
    if not source:
        return None
    # A late import: reading annotations needs more packages.
    from ssd_jax.interop.calibration import calibration_images

    return calibration_images(source, trained.network.tiling.image_size)


def _images(trained: Trained, batch: Any) -> jax.ShapeDtypeStruct:
    """The shape of `batch` uint8 images; `batch` is a number or a symbol of `jax.export`."""
    size = trained.network.tiling.image_size
    return jax.ShapeDtypeStruct((batch, size, size, 3), jnp.uint8)


def _outputs(trained: Trained, images: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Offsets and logits of uint8 images."""
    normalised = trained.network.normalise(images)
    outputs, _ = trained.network.apply(*trained.variables, normalised, train=False)
    return outputs


def _detections(trained: Trained, offsets: jax.Array, logits: jax.Array) -> Detections:
    """Detections, clipped to images, from `[..., boxes, 4]` and `[..., boxes, classes + 1]`."""
    found = best_detections(
        *score_boxes(offsets, logits, trained.network.default_boxes()),
        trained.config.detection,
    )
    return found._replace(boxes=jnp.clip(found.boxes, 0, 1))


def state_dict(trained: Trained, kind: str) -> dict[str, np.ndarray]:
    """The tensors of a detector with the names of ssd.pytorch or torchvision.

    Raises:
      UserError: the layout does not support the network.
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
            raise UserError(f"{kind} supports only SSD with VGG16 without batch norm")
        layout = ssd_pytorch_layout(num_extras)
    else:
        if not (is_vgg16 or is_lite) or num_extras != 4:
            raise UserError(
                f"{kind} supports only SSD300 with VGG16 without batch norm, and SSDLite with "
                "MobileNetV3"
            )
        layout = torchvision_layout() if is_vgg16 else torchvision_ssdlite_layout()
    return to_pytorch(trained.variables, layout, network.tiling.boxes_per_cell)
