"""Weights and activations of a graph of ONNX in float16, half the bytes of float32."""

from collections import Counter

import numpy as np
import onnx
import onnx.helper
import onnx.numpy_helper

from ssd_jax.interop.onnx_graph import Graph

SUMS = ("ReduceSum", "GlobalAveragePool")
FLOAT, FLOAT16 = onnx.TensorProto.FLOAT, onnx.TensorProto.FLOAT16


def to_float16(graph: Graph, outputs: tuple[str, ...]) -> None:
    """Changes a network in float32 to float16 from its first convolution on.

    Images are normalised in float32, and sums over a feature map are made in it, for squares of
    activations may exceed 65,504, the largest number of float16. What is made of a sum stays in
    float32 up to the next convolution.

    Args:
      graph: of a network alone.
      outputs: names of what it gives, in float32 as before.
    """
    arrays = {each.name: onnx.numpy_helper.to_array(each) for each in graph.constants}
    float32 = _nodes_in_float32(graph.nodes)
    nodes, graph.nodes, graph.constants = graph.nodes, [], []
    types: dict[str, int] = {}  # of the tensors of floats
    made: dict[tuple[str, int], str] = {}  # constants and casts, by what they are of and their type

    def given(name: str, wanted: int) -> str:
        """The name under which a node reads a tensor as it wants it."""
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
    """Names of nodes that read images or sums, and of those that are only summed."""
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
