"""A graph of ONNX in int8, by onnxruntime's static quantisation.

Convolutions multiply whole numbers: weights of 8 bits with a scale for each output channel,
activations of 8 bits with a scale for each tensor, from the least and the largest value that the
calibration images give. The file says so with QuantizeLinear and DequantizeLinear around each
operator, which engines fuse.
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

# What onnxruntime computes in whole numbers, faster than in float32. Other operators, as hard
# swish, those of squeeze-and-excitation, and the sum of a tensor and a constant, stay in float32.
OPERATORS = ("Conv", "Relu", "Clip", "MaxPool", "Add")
# Otherwise onnxruntime recommends its own preparation, which a network of plain nodes needs not.
PREPARED = {"onnx.quant.pre_process": "onnxruntime.quant"}


def to_int8(graph: Graph, network: onnx.ModelProto, images: Iterator[np.ndarray]) -> None:
    """Changes a network in float32 to int8.

    Args:
      graph: of the network.
      network: the same as a file.
      images: batches of what it is measured on, `[batch, size, size, 3]` uint8.
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
            # Symmetric activations took more than twice the time of these on a CPU.
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            nodes_to_quantize=chosen,
            calibrate_method=CalibrationMethod.MinMax,
        )
        quantised = onnx.load(after).graph
    graph.nodes, graph.constants = list(quantised.node), list(quantised.initializer)


class _Reader(CalibrationDataReader):
    """Batches as onnxruntime asks for them."""

    def __init__(self, images: Iterator[np.ndarray]) -> None:
        self._images = images

    def get_next(self) -> dict[str, np.ndarray] | None:  # pyright: ignore
        batch = next(self._images, None)
        return None if batch is None else {"images": batch}
