"""Converts a traced network to an ONNX graph: one node for each layer.

A network is traced in plain operations (`models/plain.py`) with its weights as constants.
Expressions of constants are evaluated; batch norm after a convolution is folded into its weights;
feature maps are `[batch, channels, height, width]`, the layout of ONNX's operators.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import onnx
import onnx.helper
import onnx.numpy_helper
from jax.extend.core import ClosedJaxpr, JaxprEqn

from ssd_jax.errors import UserError
from ssd_jax.interop.equations import Variable, computed, equations, named, operation, shaped
from ssd_jax.interop.onnx_values import (
    TO_CHANNELS_FIRST,
    TO_CHANNELS_LAST,
    Convolution,
    Divided,
    Relu,
    Sum,
    Tensor,
    Value,
    broadcast,
    collapsed,
    folded,
)

NO_OPERATOR = "for which export to ONNX has no operator: add it to ssd_jax/interop/onnx_graph.py"
BATCH = "batch"  # the name of the first axis, of any size
CELLS = (1, 2)  # the axes of rows and columns
# Functions of JAX that are operators of ONNX; inlined, each would be four nodes.
WHOLE = ("hard_silu", "hard_sigmoid")
ELEMENTWISE = {"add": "Add", "sub": "Sub", "mul": "Mul", "div": "Div", "max": "Max", "min": "Min"}


class Graph:
    """The nodes and constants of a graph under construction."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []
        self._numbers: Counter[str] = Counter()

    def constant(self, array: np.ndarray | np.generic, name: str = "constant") -> str:
        """Adds a constant array or number; returns its name."""
        name = self._new_name(name)
        array = np.asarray(array, order="C")
        self.constants.append(onnx.numpy_helper.from_array(array, name))
        return name

    def node(
        self, operator: str, inputs: Sequence[str], name: str = "", outputs: int = 1, **options: Any
    ) -> list[str]:
        """Adds a node; returns the names of its outputs."""
        name = name or self._new_name(operator.lower())
        names = [name] if outputs == 1 else [f"{name}_{i}" for i in range(outputs)]
        self.nodes.append(onnx.helper.make_node(operator, inputs, names, name=name, **options))
        return names

    def one(self, operator: str, *inputs: str, name: str = "", **options: Any) -> str:
        """Adds a node with one output; returns its name."""
        return self.node(operator, inputs, name, **options)[0]

    def _new_name(self, kind: str) -> str:
        number = self._numbers[kind]
        self._numbers[kind] += 1
        return f"{kind}_{number}"


def add_network(
    graph: Graph, function: Callable[[jax.Array], Any], images: str, size: int, names: Sequence[str]
) -> None:
    """Adds the nodes of a network.

    Args:
      graph: the graph to extend.
      function: a function from `[batch, size, size, 3]` uint8 images to the outputs.
      images: the name of the images in the graph.
      size: side of the images in pixels.
      names: the names of the outputs.
    """
    traced = jax.make_jaxpr(function)(jax.ShapeDtypeStruct((1, size, size, 3), jnp.uint8))
    Tracer(graph).run(traced, Tensor(images, (1, size, size, 3)), names)


class Tracer:
    """Converts the equations of a traced network to nodes."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.values: dict[Variable, Value] = {}
        self.uses: Counter[Variable] = Counter()
        self._made: dict[int, tuple[Value, Tensor]] = {}  # with the value, to keep its id unique
        self._transposed: dict[str, Tensor] = {}

    def run(self, traced: ClosedJaxpr, images: Tensor, names: Sequence[str]) -> None:
        """Adds the nodes of all equations; `names` are the names of the outputs."""
        program = traced.jaxpr
        known: dict[Any, Any] = dict(zip(program.constvars, traced.consts, strict=True))
        known = {variable: np.asarray(array) for variable, array in known.items()}
        known[program.invars[0]] = of_images = Variable()
        self.values[of_images] = images
        steps = list(equations(program, known, WHOLE))
        outputs = [named(variable, known) for variable in program.outvars]
        self.uses.update(v for _, inputs, _ in steps for v in inputs if isinstance(v, Variable))
        self.uses.update(outputs)
        for equation, inputs, results in steps:
            self.values.update(zip(results, self._results(equation, inputs), strict=True))
        for variable, name in zip(outputs, names, strict=True):
            self.graph.one("Identity", self._shared(self.values[variable]).name, name=name)

    def _results(self, equation: JaxprEqn, inputs: list[Any]) -> Sequence[Value]:
        name, shape = operation(equation), shaped(equation.outvars[0]).shape
        given: list[Value] = [v if isinstance(v, np.ndarray) else self.values[v] for v in inputs]
        known = [value for value in given if isinstance(value, np.ndarray)]
        if len(known) == len(given):
            return computed(equation, known, shape)
        if name in ELEMENTWISE:
            alone = all(self.uses[v] <= 1 for v in inputs if isinstance(v, Variable))
            return [self._elementwise(name, given, shape, alone)]
        method = getattr(self, f"_{name}", None)
        if method is None:
            raise UserError(f"the network computes {name}, {NO_OPERATOR}")
        result = method(given, equation.params, shape)
        return result if isinstance(result, list) else [result]

    def _tensor(self, value: Value) -> Tensor:
        """The tensor of a value in the graph; adds the node of a deferred operation."""
        graph = self.graph
        if isinstance(value, Convolution):
            inputs = [self._channels_first(value.x).name]
            inputs += [graph.constant(value.weight, "weight"), graph.constant(value.bias, "bias")]
            return Tensor(graph.one("Conv", *inputs, **value.attributes), value.shape, True)
        if isinstance(value, Relu):
            x = self._tensor(value.x)
            return x._replace(name=graph.one("Relu", x.name))
        if isinstance(value, Sum):
            x, kept = value.x, len(value.shape) == len(value.x.shape)
            places = [TO_CHANNELS_FIRST.index(n) if x.channels_first else n for n in value.axes]
            axes = graph.constant(np.array(places))
            name = graph.one("ReduceSum", x.name, axes, keepdims=int(kept))
            return Tensor(name, value.shape, x.channels_first and kept)
        if isinstance(value, Divided):
            divisor = graph.constant(value.divisor.reshape(()))
            return value.x._replace(name=graph.one("Div", value.x.name, divisor))
        if isinstance(value, np.ndarray):
            return Tensor(graph.constant(value), value.shape)
        return value

    def _shared(self, value: Value) -> Tensor:
        """The tensor of a value that several nodes may read; its node is added only once."""
        if id(value) not in self._made:
            self._made[id(value)] = (value, self._tensor(value))
        return self._made[id(value)][1]

    def _channels_first(self, value: Value) -> Tensor:
        return self._arranged(value, True)

    def _channels_last(self, value: Value) -> Tensor:
        return self._arranged(value, False)

    def _arranged(self, value: Value, channels_first: bool) -> Tensor:
        tensor = self._shared(value)
        if len(tensor.shape) != 4 or tensor.channels_first == channels_first:
            return tensor
        if tensor.name not in self._transposed:
            order = TO_CHANNELS_FIRST if channels_first else TO_CHANNELS_LAST
            name = self.graph.one("Transpose", tensor.name, perm=order)
            self._transposed[tensor.name] = Tensor(name, tensor.shape, channels_first)
        return self._transposed[tensor.name]

    def _elementwise(
        self, name: str, given: list[Value], shape: tuple[int, ...], alone: bool
    ) -> Value:
        first, second = given
        if isinstance(second, np.ndarray):
            if isinstance(first, Convolution) and alone:
                joined = folded(name, first, second)
                if joined is not None:
                    return joined
            if name == "div" and isinstance(first, Sum) and _is_mean(first, second):
                average = self.graph.one("GlobalAveragePool", first.x.name)
                return Tensor(average, shape, True)
            if name == "div" and isinstance(first, Tensor) and collapsed(second).size == 1:
                return Divided(first, collapsed(second), shape)
            if name == "max" and not second.any():
                return Relu(first if alone else self._shared(first), shape)
            if name == "min" and isinstance(first, Relu) and second.size == 1 and alone:
                x = self._tensor(first.x)
                limits = [self.graph.constant(np.float32(n)) for n in (0, second.item())]
                return x._replace(name=self.graph.one("Clip", x.name, *limits))
        elif isinstance(first, np.ndarray) and name in ("add", "mul", "max", "min"):
            return self._elementwise(name, [second, first], shape, alone)
        tensors = [None if isinstance(v, np.ndarray) else self._shared(v) for v in given]
        is_first = any(tensor is not None and tensor.channels_first for tensor in tensors)
        names = []
        for value, tensor in zip(given, tensors, strict=True):
            if isinstance(value, np.ndarray):
                names.append(self.graph.constant(broadcast(value, len(shape), is_first)))
            else:
                assert tensor is not None
                names.append(self._arranged(tensor, is_first).name)
        return Tensor(self.graph.one(ELEMENTWISE[name], *names), shape, is_first)

    def _conv_general_dilated(
        self, given: list[Value], params: dict[str, Any], shape: tuple[int, ...]
    ) -> Value:
        x, kernel = given
        if not isinstance(kernel, np.ndarray) or set(params["lhs_dilation"]) != {1}:
            raise UserError(f"the network has a transposed or dynamic convolution, {NO_OPERATOR}")
        weight = kernel.transpose(3, 2, 0, 1)
        if isinstance(x, Divided):
            x, weight = x.x, weight / x.divisor.item()
        attributes = {
            "kernel_shape": weight.shape[2:],
            "strides": params["window_strides"],
            "pads": _pads(params["padding"]),
            "dilations": params["rhs_dilation"],
            "group": params["feature_group_count"],
        }
        bias = np.zeros(len(weight), np.float32)
        return Convolution(self._shared(x), weight, bias, attributes, shape)

    def _reduce_window_max(
        self, given: list[Value], params: dict[str, Any], shape: tuple[int, ...]
    ) -> Value:
        options = {
            "kernel_shape": params["window_dimensions"][1:3],
            "strides": params["window_strides"][1:3],
            "pads": _pads(params["padding"][1:3]),
        }
        name = self.graph.one("MaxPool", self._channels_first(given[0]).name, **options)
        return Tensor(name, shape, True)

    def _reduce_sum(
        self, given: list[Value], params: dict[str, Any], shape: tuple[int, ...]
    ) -> Value:
        x = self._shared(given[0])
        return Sum(x, tuple(params["axes"]), shape)

    def _broadcast_in_dim(
        self, given: list[Value], params: dict[str, Any], shape: tuple[int, ...]
    ) -> Value:
        value = given[0]
        if isinstance(value, Sum):
            kept = [1 if n in value.axes else size for n, size in enumerate(value.x.shape)]
            if tuple(kept) == shape:
                return value._replace(shape=shape)
        raise UserError(f"the network repeats values, {NO_OPERATOR}")

    def _reshape(self, given: list[Value], params: dict[str, Any], shape: tuple[int, ...]) -> Value:
        x = self._channels_last(given[0])
        wanted = self.graph.constant(np.array([0, *shape[1:]]))
        return Tensor(self.graph.one("Reshape", x.name, wanted), shape)

    def _split(
        self, given: list[Value], params: dict[str, Any], shape: tuple[int, ...]
    ) -> list[Value]:
        x = self._channels_last(given[0])
        sizes = self.graph.constant(np.array(params["sizes"]))
        count, axis = len(params["sizes"]), params["axis"]
        names = self.graph.node("Split", [x.name, sizes], outputs=count, axis=axis)
        shapes = [(*x.shape[:axis], n, *x.shape[axis + 1 :]) for n in params["sizes"]]
        return [Tensor(name, own) for name, own in zip(names, shapes, strict=True)]

    def _concatenate(
        self, given: list[Value], params: dict[str, Any], shape: tuple[int, ...]
    ) -> Value:
        names = [self._channels_last(value).name for value in given]
        return Tensor(self.graph.one("Concat", *names, axis=params["dimension"]), shape)

    def _sqrt(self, given: list[Value], params: dict[str, Any], shape: tuple[int, ...]) -> Value:
        x = self._shared(given[0])
        return x._replace(name=self.graph.one("Sqrt", x.name))

    def _hard_silu(
        self, given: list[Value], params: dict[str, Any], shape: tuple[int, ...]
    ) -> Value:
        x = self._shared(given[0])
        return x._replace(name=self.graph.one("HardSwish", x.name))

    def _hard_sigmoid(
        self, given: list[Value], params: dict[str, Any], shape: tuple[int, ...]
    ) -> Value:
        x = self._shared(given[0])
        return x._replace(name=self.graph.one("HardSigmoid", x.name, alpha=1 / 6, beta=0.5))

    def _convert_element_type(
        self, given: list[Value], params: dict[str, Any], shape: tuple[int, ...]
    ) -> Value:
        # Pixels are transposed while they are bytes.
        x = self._channels_first(given[0])
        kind = onnx.helper.np_dtype_to_tensor_dtype(np.dtype(params["new_dtype"]))
        return x._replace(name=self.graph.one("Cast", x.name, to=kind))


def _is_mean(value: Sum, count: np.ndarray) -> bool:
    """Whether a sum over the cells of a map is divided by their number."""
    cells = value.x.shape[1] * value.x.shape[2] if value.axes == CELLS else 0
    is_map = value.x.channels_first and len(value.shape) == len(value.x.shape)
    return is_map and bool((count == cells).all())


def _pads(padding: Sequence[tuple[int, int]]) -> list[int]:
    """Padding: rows before, columns before, rows after, columns after."""
    return [int(cells) for side in zip(*padding, strict=True) for cells in side]
