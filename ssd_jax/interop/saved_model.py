"""Exports a trained detector to TensorFlow's SavedModel, with suppression."""

import tempfile
from pathlib import Path
from typing import Any

import numpy as np

import ssd_jax
from ssd_jax.data.tensorflow_setup import tf
from ssd_jax.detection.box_coder import CENTRE_VARIANCE, SIZE_VARIANCE
from ssd_jax.interop.deployed import description, inference_function
from ssd_jax.interop.tflite_network import network_function
from ssd_jax.interop.trained import Trained
from ssd_jax.storage.files import write_json

DESCRIPTION_FILE = "detector.json"


def write_saved_model(trained: Trained, folder: Path, license_name: str = "") -> None:
    """Writes `saved_model.pb`, and `assets/detector.json` with the information for programs.

    Its signature `serving_default` takes `images`, `[batch, size, size, 3]` uint8 RGB, with any
    batch size. It returns `boxes` `[batch, detections, 4]` xyxy in [0, 1], `scores` and `labels`
    (from 1; 0 = none), the best first.

    Args:
      trained: the detector.
      folder: the output folder.
      license_name: the licence of the detector; "" if not stated.

    Raises:
      UserError: an operation of the network is not supported.
    """
    size = trained.network.tiling.image_size
    run = network_function(inference_function(trained), size)

    def detect(images: tf.Tensor) -> dict[str, tf.Tensor]:
        offsets, logits = run(tf.cast(images, tf.float32))
        return _detections(trained, offsets, logits)

    given = tf.TensorSpec((None, size, size, 3), tf.uint8, name="images")
    # An attribute of the module would be stored in the file twice, with all weights.
    traced: Any = tf.function(detect, [given], autograph=False)
    module: Any = tf.Module()
    told = description(
        trained,
        batch="batch",
        boxes="x_min, y_min, x_max, y_max as fractions of the image",
        version=ssd_jax.__version__,
        license=license_name,
    )
    with tempfile.TemporaryDirectory() as elsewhere:
        write_json(Path(elsewhere) / DESCRIPTION_FILE, told)
        module.description = tf.saved_model.Asset(str(Path(elsewhere) / DESCRIPTION_FILE))
        signatures = {"serving_default": traced.get_concrete_function()}
        tf.saved_model.save(module, str(folder), signatures)


def _detections(trained: Trained, offsets: tf.Tensor, logits: tf.Tensor) -> dict[str, tf.Tensor]:
    """Computes detections from offsets and logits, with TensorFlow's suppression.

    It uses all boxes of a class above the threshold, not the best `boxes_per_class`, and its limit
    of detections per class is the limit per image.

    Args:
      trained: the detector.
      offsets: `[batch, boxes, 4]`.
      logits: `[batch, boxes, classes + 1]`.

    Returns:
      `boxes`, `scores` and `labels`, the best first, padded with zeros.
    """
    default_boxes, settings = trained.network.default_boxes(), trained.config.detection
    centre, size = default_boxes[:, :2], default_boxes[:, 2:]
    of_centre, of_size = tf.split(offsets, 2, axis=-1)
    middle = of_centre * (size * np.float32(CENTRE_VARIANCE)) + centre
    half = tf.exp(of_size * np.float32(SIZE_VARIANCE)) * (size / 2)
    boxes = tf.concat([middle - half, middle + half], axis=-1)
    num_boxes, num_classes = len(default_boxes), len(trained.class_names)
    _, scores = tf.split(tf.nn.softmax(logits), [1, num_classes], axis=-1)
    count = min(settings.detections_per_image, num_boxes * num_classes)
    found = tf.image.combined_non_max_suppression(
        tf.expand_dims(boxes, 2),  # the same for all classes
        scores,
        max_output_size_per_class=count,
        max_total_size=count,
        iou_threshold=settings.nms_iou_threshold,
        score_threshold=settings.score_threshold,
        clip_boxes=False,
    )
    is_found = tf.range(count) < tf.expand_dims(found.valid_detections, 1)
    labels = tf.where(is_found, tf.cast(found.nmsed_classes, tf.int32) + 1, 0)
    return {
        "boxes": tf.clip_by_value(found.nmsed_boxes, 0, 1),
        "scores": found.nmsed_scores,
        "labels": labels,
    }
