"""Exports a trained detector to TFLite files: the network, and the network with suppression."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from ai_edge_litert import schema_py_generated as schema
from flatbuffers import flexbuffers

import ssd_jax
from ssd_jax.config.schema import DetectionConfig
from ssd_jax.data.tensorflow_setup import tf
from ssd_jax.detection.box_coder import CENTRE_VARIANCE, SIZE_VARIANCE
from ssd_jax.interop.deployed import description, inference_function
from ssd_jax.interop.tflite_file import Model
from ssd_jax.interop.tflite_metadata import LABELS_FILE, detector_metadata, network_metadata
from ssd_jax.interop.tflite_network import network_function
from ssd_jax.interop.trained import Trained
from ssd_jax.storage.files import write_bytes

DESCRIPTION_FILE = "detector.json"
OUTPUTS = ("offsets", "logits")
# Smaller constants stay in float32: biases and the first layers. Their rounding errors would change
# every later map, and they are one percent of the file.
SMALLEST_IN_FLOAT16 = 3000
YXHW = np.array([1, 0, 3, 2], np.int32)  # TFLite's operator needs scales of x, y, width and height


def write_tflite(
    trained: Trained,
    folder: Path,
    precision: str = "",
    calibration: Iterator[np.ndarray] | None = None,
    license_name: str = "",
) -> None:
    """Writes `network.tflite` and `detector.tflite`.

    Both take `images`, `[1, size, size, 3]` uint8 RGB. The network returns `offsets`
    `[1, boxes, 4]` and `logits` `[1, boxes, classes + 1]`. The detector uses TFLite's operator
    `TFLite_Detection_PostProcess`; it returns `boxes` `[1, detections, 4]` y_min, x_min, y_max,
    x_max in [0, 1], `classes` from 0, `scores`, the best first, and `count` `[1]`.

    Args:
      trained: the detector.
      folder: the output folder.
      precision: the precision of the network: float32 (or ""), float16 for weights, or int8.
      calibration: batches of images for int8, `[batch, size, size, 3]` uint8.
      license_name: the licence of the detector; "" if not stated.

    Raises:
      UserError: an operation of the network is not supported, or an image cannot be read.
    """
    converted = _converted(trained, calibration)
    size, version = trained.network.tiling.image_size, ssd_jax.__version__
    detector_file = json.dumps(_description(trained, precision, license_name), indent=2).encode()
    files = {DESCRIPTION_FILE: detector_file, LABELS_FILE: "\n".join(trained.class_names).encode()}
    texts = {DESCRIPTION_FILE: "Classes with ids, thresholds, inputs and outputs."}

    network = _model(converted, precision)
    images, outputs = network.inputs["images"], network.outputs
    network.name({"images": images}, {name: outputs[name] for name in OUTPUTS})
    texts_network = texts | {LABELS_FILE: "Names of the logits 1, 2, …, one per line."}
    metadata = network_metadata(size, version, texts_network, license_name)
    write_bytes(folder / "network.tflite", network.serialise("SSD network", metadata, files))

    detector = _model(converted, precision)
    found = add_detection(
        detector,
        trained.network.default_boxes(),
        trained.network.num_classes,
        trained.config.detection,
    )
    detector.name({"images": images}, found)
    metadata = detector_metadata(size, version, texts, license_name)
    write_bytes(folder / "detector.tflite", detector.serialise("SSD detector", metadata, files))


def _model(converted: bytes, precision: str) -> Model:
    model = Model(converted)
    if precision == "float16":
        model.halve_constants(SMALLEST_IN_FLOAT16)
    return model


def _converted(trained: Trained, calibration: Iterator[np.ndarray] | None) -> bytes:
    """Converts the network with TensorFlow's converter; offsets and logits are float32."""
    size = trained.network.tiling.image_size
    run = network_function(inference_function(trained), size)
    # The converter adds the quantisation of a float32 input.
    kind = tf.uint8 if calibration is None else tf.float32
    given = tf.TensorSpec((1, size, size, 3), kind, name="images")
    module: Any = tf.Module()
    module.run = tf.function(
        lambda images: dict(zip(OUTPUTS, run(tf.cast(images, tf.float32)), strict=True)),
        [given],
        autograph=False,  # would take most of the time, for loops that the graph does not have
    )
    functions = [module.run.get_concrete_function()]
    converter: Any = tf.lite.TFLiteConverter.from_concrete_functions(functions, module)
    if calibration is not None:
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
        converter.representative_dataset = lambda: _single_images(calibration)
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
        converter.inference_input_type = tf.uint8
    return converter.convert()


def _single_images(batches: Iterator[np.ndarray]) -> Iterator[list[np.ndarray]]:
    """Yields single images, each with a pixel of 0 and one of 255, so that the input scale is 1."""
    for images in batches:
        for image in images.astype(np.float32):
            image[0, 0], image[0, 1] = 0, 255
            yield [image[None]]


def add_detection(
    model: Model, default_boxes: np.ndarray, num_classes: int, settings: DetectionConfig
) -> dict[str, int]:
    """Adds operators that compute detections from offsets and logits, the outputs of a model.

    They are float32 in every precision. Suppression uses all boxes of a class above the threshold,
    not the best `boxes_per_class`.

    Args:
      model: the model to extend.
      default_boxes: `[boxes, 4] cxcywh`.
      num_classes: the number of classes without the background.
      settings: thresholds and the number of detections.

    Returns:
      The tensors `boxes`, `classes`, `scores` and `count`.
    """
    offsets, logits = (model.outputs[name] for name in OUTPUTS)
    num_boxes = len(default_boxes)
    count = min(settings.detections_per_image, num_boxes * num_classes)
    turned = model.tensor("offsets_yxhw", (1, num_boxes, 4))
    model.operator(
        "GATHER", [offsets, model.constant("yxhw", YXHW)], [turned], _options("Gather", axis=2)
    )
    probabilities = model.tensor("probabilities", (1, num_boxes, num_classes + 1))
    model.operator("SOFTMAX", [logits], [probabilities], _options("Softmax", beta=1.0))
    whole = model.tensor("boxes_beyond_the_image", (1, count, 4))
    above = model.tensor("boxes_above_0", (1, count, 4))
    shapes = {"boxes": (1, count, 4), "classes": (1, count), "scores": (1, count), "count": (1,)}
    # Readers of metadata identify outputs by the order of their tensors.
    found = {name: model.tensor(name, shape) for name, shape in shapes.items()}
    model.custom(
        "TFLite_Detection_PostProcess",
        [turned, probabilities, model.constant("default_boxes_yxhw", default_boxes[:, YXHW])],
        [whole, found["classes"], found["scores"], found["count"]],
        _suppression(settings, num_classes, count),
    )
    zero, one = (model.constant(name, np.float32(n)) for name, n in (("zero", 0), ("one", 1)))
    model.operator("MAXIMUM", [whole, zero], [above], _options("MaximumMinimum"))
    model.operator("MINIMUM", [above, one], [found["boxes"]], _options("MaximumMinimum"))
    return found


def _options(kind: str, **values: Any) -> Any:
    options = getattr(schema, f"{kind}OptionsT")()
    for name, value in values.items():
        setattr(options, name, value)
    return options


def _suppression(settings: DetectionConfig, num_classes: int, count: int) -> bytes:
    """The options of `TFLite_Detection_PostProcess`: suppression by class, like ours."""
    return bytes(
        flexbuffers.Dumps(
            {
                "max_detections": count,
                "max_classes_per_detection": 1,
                "detections_per_class": count,
                "use_regular_nms": True,
                # There, a score must reach the threshold; here, exceed it.
                "nms_score_threshold": float(
                    np.nextafter(np.float32(settings.score_threshold), np.float32(1))
                ),
                "nms_iou_threshold": settings.nms_iou_threshold,
                "num_classes": num_classes,
                "y_scale": 1 / CENTRE_VARIANCE,
                "x_scale": 1 / CENTRE_VARIANCE,
                "h_scale": 1 / SIZE_VARIANCE,
                "w_scale": 1 / SIZE_VARIANCE,
            }
        )
    )


def _description(trained: Trained, precision: str, license_name: str) -> dict[str, Any]:
    """The information that a program needs to use a file."""
    told = description(
        trained,
        batch=1,
        boxes="y_min, x_min, y_max, x_max as fractions of the image",
        precision=precision or "float32",
    )
    return told | {"version": ssd_jax.__version__, "license": license_name}
