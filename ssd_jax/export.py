"""Turns a trained detector into files that run elsewhere."""

import json
from pathlib import Path

import jax
import jax.export
import jax.numpy as jnp
import numpy as np
import safetensors.numpy

from ssd_jax.detection.box_coder import decode
from ssd_jax.detection.postprocess import detect_image
from ssd_jax.errors import UserError
from ssd_jax.interop.pytorch_layouts import ssd_pytorch_layout, to_pytorch, torchvision_layout
from ssd_jax.trained import Trained, load_workdir, save_folder

FORMATS = ("safetensors", "stablehlo", "onnx", "ssd.pytorch", "torchvision")
PLATFORMS = ("cpu", "cuda", "tpu")


def export(kind: str, run: str, output: str, step: int | None = None) -> None:
    """Writes a folder with a trained detector.

    Args:
      kind: one of `FORMATS`.
      run: the work directory of a run.
      output: the folder to write.
      step: which checkpoint; the last one where None.

    Raises:
      UserError: there is no such run, format or checkpoint, or the format has no place for it.
    """
    if kind not in FORMATS:
        raise UserError(f"--to is {kind!r}, but must be one of {', '.join(FORMATS)}")
    trained, folder = load_workdir(Path(run), step), Path(output)
    if kind == "safetensors":
        save_folder(trained, folder)
        return
    if kind == "stablehlo":
        exported = to_stablehlo(trained)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "detector.stablehlo").write_bytes(exported)
    elif kind == "onnx":
        to_onnx(trained, folder / "network.onnx")
        np.save(folder / "default_boxes.npy", trained.network.default_boxes())
    else:
        tensors = state_dict(trained, kind)
        folder.mkdir(parents=True, exist_ok=True)
        safetensors.numpy.save_file(tensors, folder / "model.safetensors")
    classes = zip(trained.category_ids, trained.class_names, strict=True)
    described = [{"id": category_id, "name": name} for category_id, name in classes]
    (folder / "classes.json").write_text(json.dumps(described, indent=2) + "\n")


def to_stablehlo(trained: Trained) -> bytes:
    """Pictures to detections, in one function that JAX alone can run: see `jax.export`.

    It takes `[batch, size, size, 3]` uint8 RGB, any number of images, and gives `boxes` (xyxy in
    [0, 1]), `scores` and `labels` (from 1; 0 = none), the best first.
    """
    network, settings = trained.network, trained.config.detection
    default_boxes = network.default_boxes()

    def detect(images: jax.Array) -> dict[str, jax.Array]:
        normalised = network.normalise(images)
        (offsets, logits), _ = network.apply(*trained.variables, normalised, train=False)
        boxes = decode(offsets, default_boxes)
        scores = jax.nn.softmax(logits, axis=-1)[..., 1:].swapaxes(1, 2)
        found = jax.vmap(
            lambda boxes, scores: detect_image(
                boxes,
                scores,
                settings.score_threshold,
                settings.iou_threshold,
                settings.boxes_per_class,
                settings.detections_per_image,
            )
        )(boxes, scores)
        return found._replace(boxes=jnp.clip(found.boxes, 0, 1))._asdict()

    (batch,) = jax.export.symbolic_shape("batch")
    size = network.tiling.image_size
    images = jax.ShapeDtypeStruct((batch, size, size, 3), jnp.uint8)
    return bytes(jax.export.export(jax.jit(detect), platforms=PLATFORMS)(images).serialize())


def to_onnx(trained: Trained, file: Path) -> None:
    """Pictures to offsets and logits, as ONNX.

    It takes one `[1, size, size, 3]` uint8 RGB picture.

    Raises:
      UserError: the converter is not installed.
    """
    try:
        import jax2onnx
    except ImportError as error:
        raise UserError(
            "to write ONNX, install the converter: pip install -r requirements-onnx.txt"
        ) from error
    network = trained.network

    def forward(images: jax.Array) -> tuple[jax.Array, jax.Array]:
        normalised = network.normalise(images)
        outputs, _ = network.apply(*trained.variables, normalised, train=False)
        return outputs

    size = network.tiling.image_size
    images = jax.ShapeDtypeStruct((1, size, size, 3), jnp.uint8)
    file.parent.mkdir(parents=True, exist_ok=True)
    jax2onnx.to_onnx(forward, inputs=[images], return_mode="file", output_path=str(file))


def state_dict(trained: Trained, kind: str) -> dict[str, np.ndarray]:
    """The tensors of an SSD with VGG16 as ssd.pytorch or torchvision names them.

    Raises:
      UserError: the network is none that they have.
    """
    network = trained.network
    num_extras = len(network.extra_blocks)
    fits = network.backbone == "vgg16" and not network.batch_norm and not network.separable
    if not fits or (kind == "torchvision" and num_extras != 4):
        what = "SSD300 with VGG16" if kind == "torchvision" else "SSD with VGG16"
        raise UserError(f"{kind} has a place for an {what} without batch norm alone")
    layout = torchvision_layout() if kind == "torchvision" else ssd_pytorch_layout(num_extras)
    return to_pytorch(trained.variables, layout, network.tiling.boxes_per_cell)
