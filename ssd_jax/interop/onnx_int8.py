"""Converts an ONNX graph to int8, by onnxruntime's static quantisation.

Convolutions multiply integers: weights of 8 bits with a scale for each output channel, and
activations of 8 bits with a scale for each tensor. The scales of activations are computed from
their minimum and maximum on the calibration images. Each operator is between DequantizeLinear and
QuantizeLinear; engines fuse these.
"""

import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
import onnx.helper
from onnxruntime.quantization import (
    CalibrationDataReader,
    CalibrationMethod,
    QuantFormat,
    QuantType,
    quantize_static,
)

from ssd_jax.interop.onnx_graph import Graph

# Operators that onnxruntime computes in integers, faster than in float32. Others, like hard swish,
# squeeze-and-excitation, and the sum of a tensor and a constant, stay in float32.
OPERATORS = ("Conv", "Relu", "Clip", "MaxPool", "Add")
# Suppresses the recommendation of a preparation, which a network of plain nodes does not need.
PREPARED = {"onnx.quant.pre_process": "onnxruntime.quant"}


def to_int8(graph: Graph, network: onnx.ModelProto, images: Iterator[np.ndarray]) -> None:
    """Converts a network from float32 to int8.

    Args:
      graph: the graph of the network.
      network: the file of the network.
      images: batches of calibration images, `[batch, size, size, 3]` uint8.
    """
    constants = {each.name for each in graph.constants}
    chosen = [
        node.name
        for node in graph.nodes
        if node.op_type in OPERATORS
        and not (node.op_type == "Add" and constants.intersection(node.input))
    ]
    onnx.helper.set_model_props(network, PREPARED)
    with tempfile.TemporaryDirectory() as folder:
        before, after = Path(folder) / "float32.onnx", Path(folder) / "int8.onnx"
        onnx.save(network, before)
        quantize_static(
            before,
            after,
            _Reader(images),
            quant_format=QuantFormat.QDQ,
            per_channel=True,
            # On a CPU, symmetric activations took more than twice the time of asymmetric ones.
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            nodes_to_quantize=chosen,
            calibrate_method=CalibrationMethod.MinMax,
        )
        quantised = onnx.load(after).graph
    graph.nodes, graph.constants = list(quantised.node), list(quantised.initializer)


class _Reader(CalibrationDataReader):
    """Provides batches to onnxruntime."""

    def __init__(self, images: Iterator[np.ndarray]) -> None:
        self._images = images

    def get_next(self) -> dict[str, np.ndarray] | None:  # pyright: ignore
        batch = next(self._images, None)
        return None if batch is None else {"images": batch}
