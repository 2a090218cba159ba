"""Converts weights and activations of an ONNX graph to float16, half the size of float32."""

from collections import Counter

import numpy as np
import onnx
import onnx.helper
import onnx.numpy_helper

from ssd_jax.interop.onnx_graph import Graph

SUMS = ("ReduceSum", "GlobalAveragePool")
FLOAT, FLOAT16 = onnx.TensorProto.FLOAT, onnx.TensorProto.FLOAT16


def to_float16(graph: Graph, outputs: tuple[str, ...]) -> None:
    """Converts a network from float32 to float16, beginning with its first convolution.

    Images are normalised in float32. Sums over a feature map are computed in float32, because
    squares of activations may exceed 65,504, the largest number of float16. Values computed from a
    sum stay in float32 up to the next convolution.

    Args:
      graph: the graph of a network without detection.
      outputs: the names of its outputs, which stay in float32.
    """
    arrays = {each.name: onnx.numpy_helper.to_array(each) for each in graph.constants}
    float32 = _nodes_in_float32(graph.nodes)
    nodes, graph.nodes, graph.constants = graph.nodes, [], []
    types: dict[str, int] = {}  # the types of float tensors
    made: dict[tuple[str, int], str] = {}  # constants and casts, by source and type

    def given(name: str, wanted: int) -> str:
        """The name of a tensor with the type that a node needs."""
        if (name, wanted) in made:
            return made[name, wanted]
        if name in arrays:
            array = arrays[name]
            if array.dtype == np.float32 and wanted == FLOAT16:
                array = array.astype(np.float16)
            made[name, wanted] = graph.constant(array, name.rpartition("_")[0])
        elif types.get(name, wanted) != wanted:
            made[name, wanted] = graph.one("Cast", name, to=wanted)
        return made.get((name, wanted), name)

    for node in nodes:
        wanted = FLOAT if node.name in float32 or node.name in outputs else FLOAT16
        names = [given(name, wanted) for name in node.input]
        changed = onnx.NodeProto()
        changed.CopyFrom(node)
        del changed.input[:]
        changed.input.extend(names)
        graph.nodes.append(changed)
        types.update(dict.fromkeys(node.output, wanted))


def _nodes_in_float32(nodes: list[onnx.NodeProto]) -> set[str]:
    """The names of nodes that read images or sums, and of nodes that are only summed."""
    tensors, names = {"images"}, set()
    for node in nodes:
        is_sum = node.op_type in SUMS
        if is_sum or (node.op_type != "Conv" and tensors.intersection(node.input)):
            tensors.update(node.output)
            names.add(node.name)
    readers = Counter(name for node in nodes for name in node.input)
    summed = Counter(node.input[0] for node in nodes if node.op_type in SUMS)
    names.update(name for name in summed if readers[name] == summed[name])
    return names
