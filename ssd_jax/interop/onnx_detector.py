"""Exports a trained detector to ONNX files, with and without suppression."""

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
import onnx.checker
import onnx.helper

import ssd_jax
from ssd_jax.config.schema import DetectionConfig
from ssd_jax.detection.box_coder import CENTRE_VARIANCE, SIZE_VARIANCE
from ssd_jax.interop.deployed import description, inference_function
from ssd_jax.interop.onnx_float16 import to_float16
from ssd_jax.interop.onnx_graph import BATCH, Graph, add_network
from ssd_jax.interop.trained import Trained
from ssd_jax.storage.files import write_bytes

OPSET = 17  # supported since TensorRT 8.5, OpenVINO 2022.3 and onnxruntime 1.12
IR_VERSION = 8
FLOAT, UINT8, INT32 = 1, 2, 6  # of onnx.TensorProto


def write_onnx(
    trained: Trained,
    folder: Path,
    precision: str = "",
    calibration: Iterator[np.ndarray] | None = None,
    license_name: str = "",
) -> None:
    """Writes `network.onnx` and `detector.onnx`.

    Both take `images`, `[batch, size, size, 3]` uint8 RGB. The network returns `offsets`
    `[batch, boxes, 4]` and `logits` `[batch, boxes, classes + 1]`. The detector returns `boxes`
    `[batch, detections, 4]` xyxy in [0, 1], `scores` and `labels` (from 1; 0 = none), the best
    first. All outputs, and detection, are float32 in every precision.

    Args:
      trained: the detector.
      folder: the output folder.
      precision: the precision of the network: float32 (or ""), float16 or int8.
      calibration: batches of images for int8, `[batch, size, size, 3]` uint8.
      license_name: the licence of the detector; "" if not stated.

    Raises:
      UserError: ONNX has no operator for an operation of the network.
    """
    num_boxes, num_logits = trained.network.tiling.num_boxes, trained.network.num_classes + 1
    told = metadata(trained, license_name)
    outputs = {"offsets": (FLOAT, (num_boxes, 4)), "logits": (FLOAT, (num_boxes, num_logits))}
    graph = Graph()
    size = trained.network.tiling.image_size
    add_network(graph, inference_function(trained), "images", size, names=tuple(outputs))
    if precision == "float16":
        to_float16(graph, tuple(outputs))
    elif calibration is not None:
        # A late import: onnxruntime takes a second.
        from ssd_jax.interop.onnx_int8 import to_int8

        to_int8(graph, _model(graph, size, outputs, told), calibration)
    write_bytes(folder / "network.onnx", _model(graph, size, outputs, told).SerializeToString())
    count = add_detection(
        graph, trained.network.default_boxes(), num_logits, trained.config.detection
    )
    found = {"boxes": (FLOAT, (count, 4)), "scores": (FLOAT, (count,)), "labels": (INT32, (count,))}
    write_bytes(folder / "detector.onnx", _model(graph, size, found, told).SerializeToString())


def _model(
    graph: Graph,
    size: int,
    outputs: dict[str, tuple[int, tuple[int, ...]]],
    told: dict[str, str],
) -> onnx.ModelProto:
    """Makes the model of a graph; `outputs` are types and shapes without the batch."""
    make = onnx.helper.make_tensor_value_info
    made = onnx.helper.make_graph(
        graph.nodes,
        "ssd",
        [make("images", UINT8, [BATCH, size, size, 3])],
        [make(name, kind, [BATCH, *shape]) for name, (kind, shape) in outputs.items()],
        graph.constants,
    )
    model = onnx.helper.make_model(
        made,
        opset_imports=[onnx.helper.make_opsetid("", OPSET)],
        ir_version=IR_VERSION,
        producer_name="ssd_jax",
        producer_version=ssd_jax.__version__,
    )
    onnx.helper.set_model_props(model, told)
    onnx.checker.check_model(model)
    return model


def metadata(trained: Trained, license_name: str) -> dict[str, str]:
    """The information that a program needs to use a file."""
    told = description(trained, BATCH, boxes="x_min, y_min, x_max, y_max as fractions of the image")
    told["license"] = license_name
    return {
        name: value if isinstance(value, str) else json.dumps(value) for name, value in told.items()
    }


def add_detection(
    graph: Graph, default_boxes: np.ndarray, num_logits: int, settings: DetectionConfig
) -> int:
    """Adds the nodes that compute `boxes`, `scores` and `labels` from `offsets` and `logits`.

    Suppression is an operator of ONNX. It uses all boxes of a class above the threshold, not the
    best `boxes_per_class`, and its limit of detections per class is the limit per image.

    Args:
      graph: the graph of the network.
      default_boxes: `[boxes, 4] cxcywh`.
      num_logits: the number of classes with the background.
      settings: thresholds and the number of detections.

    Returns:
      The number of detections of each image.
    """

    def constant(*numbers: float, kind: type = np.int64) -> str:
        return graph.constant(np.array(numbers, kind))

    num_boxes, num_classes = len(default_boxes), num_logits - 1
    count = min(settings.detections_per_image, num_boxes * num_classes)
    boxes = _decoded(graph, default_boxes)
    probabilities = graph.one("Softmax", "logits", axis=2)
    foreground = graph.one("Slice", probabilities, constant(1), constant(num_logits), constant(2))
    scores = graph.one("Transpose", foreground, perm=[0, 2, 1])
    chosen = graph.one(
        "NonMaxSuppression",
        boxes,
        scores,
        constant(count),
        constant(settings.nms_iou_threshold, kind=np.float32),
        constant(settings.score_threshold, kind=np.float32),
    )  # of each detection: image, class, box
    kept = graph.one(
        "ScatterND",
        graph.one("ConstantOfShape", graph.one("Shape", scores)),
        chosen,
        graph.one("GatherND", scores, chosen),
    )
    by_image = graph.one("Reshape", kept, constant(0, num_boxes * num_classes))
    best, places = graph.node("TopK", [by_image, constant(count)], outputs=2, axis=1)
    graph.one("Identity", best, name="scores")

    zero = graph.constant(np.float32(0))
    found = graph.one("Greater", best, zero)
    label = graph.one("Div", places, graph.constant(np.int64(num_boxes)))
    label = graph.one("Add", label, graph.constant(np.int64(1)))
    label = graph.one("Where", found, label, graph.constant(np.int64(0)))
    graph.one("Cast", label, name="labels", to=INT32)

    box = graph.one("Mod", places, graph.constant(np.int64(num_boxes)))
    box = graph.one("Unsqueeze", box, constant(2))
    box = graph.one("GatherND", boxes, box, batch_dims=1)
    box = graph.one("Where", graph.one("Unsqueeze", found, constant(2)), box, zero)
    graph.one("Clip", box, zero, graph.constant(np.float32(1)), name="boxes")
    return count


def _decoded(graph: Graph, default_boxes: np.ndarray) -> str:
    """`[batch, boxes, 4] xyxy`, not clipped; see `box_coder.decode`."""
    centre, size = default_boxes[:, :2], default_boxes[:, 2:]
    halves = graph.constant(np.array([2, 2]))
    of_centre, of_size = graph.node("Split", ["offsets", halves], outputs=2, axis=2)
    of_centre = graph.one("Mul", of_centre, graph.constant(size * np.float32(CENTRE_VARIANCE)))
    of_centre = graph.one("Add", of_centre, graph.constant(centre))
    of_size = graph.one("Mul", of_size, graph.constant(np.float32(SIZE_VARIANCE)))
    half = graph.one("Mul", graph.one("Exp", of_size), graph.constant(size / 2))
    corners = [graph.one(operator, of_centre, half) for operator in ("Sub", "Add")]
    return graph.one("Concat", *corners, axis=2)
