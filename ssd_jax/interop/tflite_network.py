"""Converts a traced network to TensorFlow operations, for TensorFlow's converter to TFLite.

A network is traced in plain operations (`models/plain.py`) with its weights as constants.
Expressions of constants are evaluated here; the converter folds batch norm and ReLU6 into the
convolution before them.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import ClosedJaxpr, JaxprEqn

from ssd_jax.data.tensorflow_setup import tf
from ssd_jax.errors import UserError
from ssd_jax.interop.equations import Variable, computed, equations, named, shaped

NO_OPERATOR = (
    "for which export to TFLite has no operator: add it to ssd_jax/interop/tflite_network.py"
)
LOWEST = float(np.finfo(np.float32).min)


class Sum(NamedTuple):
    """A sum over axes; in the graph, these axes have one entry each."""

    kept: Any
    shape: tuple[int, ...]


class Convolution(NamedTuple):
    """A convolution with its bias, and a function that computes some of its channels separately."""

    result: Any
    channels: Callable[[slice], Any]


Value = Any  # a tensor of TensorFlow, a `Sum`, a `Convolution`, or a constant array

ELEMENTWISE: dict[str, Callable[..., Any]] = {
    "add": tf.add,
    "sub": tf.subtract,
    "mul": tf.multiply,
    "div": tf.divide,
    "max": tf.maximum,
    "min": tf.minimum,
}
OTHERS: dict[str, Callable[..., Any]] = {
    "sqrt": tf.sqrt,
    "square": tf.square,
    "logistic": tf.sigmoid,
}


def network_function(
    function: Callable[[jax.Array], Any], size: int
) -> Callable[[tf.Tensor], tuple[tf.Tensor, ...]]:
    """Converts a function of JAX to a function of TensorFlow, for one image or any batch size.

    Args:
      function: a function from `[1, size, size, 3]` float32 to arrays.
      size: side of the image in pixels.

    Raises:
      UserError: when the result is called: an operation is not supported.
    """
    traced = jax.make_jaxpr(function)(jax.ShapeDtypeStruct((1, size, size, 3), jnp.float32))
    return lambda images: _run(traced, images)


def _run(traced: ClosedJaxpr, images: tf.Tensor) -> tuple[tf.Tensor, ...]:
    program = traced.jaxpr
    known: dict[Any, Any] = dict(zip(program.constvars, traced.consts, strict=True))
    known = {variable: np.asarray(array) for variable, array in known.items()}
    known[program.invars[0]] = of_images = Variable()
    values: dict[Variable, Value] = {of_images: images}
    for equation, inputs, results in equations(program, known):
        given = [values[v] if isinstance(v, Variable) else v for v in inputs]
        values.update(zip(results, _results(equation, given), strict=True))
    outputs = [values[named(variable, known)] for variable in program.outvars]
    return tuple(map(_tensor, outputs))


def _results(equation: JaxprEqn, given: list[Value]) -> Sequence[Value]:
    name, shape = equation.primitive.name, shaped(equation.outvars[0]).shape
    if all(isinstance(value, np.ndarray) for value in given):
        return computed(equation, given, shape)
    if name in ELEMENTWISE:
        return [_elementwise(name, *given)]
    if name == "split":
        return _split(given[0], equation.params["sizes"], equation.params["axis"])
    if name == "conv_general_dilated":
        return [_convolution(_tensor(given[0]), given[1], equation.params)]
    tensors = list(map(_tensor, given))
    if name in OTHERS:
        return [OTHERS[name](tensors[0])]
    if name == "broadcast_in_dim":
        return [_broadcast(given[0], shape)]
    if name not in BY_NAME:
        raise UserError(f"the network computes {name}, {NO_OPERATOR}")
    return [BY_NAME[name](tensors, equation.params, shape)]


def _tensor(value: Value) -> Any:
    if isinstance(value, Sum):
        return _reshaped(value.kept, value.shape)
    if isinstance(value, Convolution):
        return value.result
    return _collapsed(value) if isinstance(value, np.ndarray) else value


def _collapsed(array: np.ndarray) -> np.ndarray:
    """A constant without axes along which it is only repeated."""
    for axis in range(array.ndim):
        first = np.take(array, [0], axis)
        if array.shape[axis] > 1 and (array == first).all():
            array = first
    while array.ndim and array.shape[0] == 1:
        array = array[0]
    return array


def _elementwise(name: str, first: Value, second: Value) -> Value:
    if isinstance(first, np.ndarray) and name in ("add", "mul", "max", "min"):
        first, second = second, first
    if name == "mul" and first is second:
        return tf.square(_tensor(first))  # gives the converter the length of a vector
    if name == "add" and isinstance(first, Convolution) and isinstance(second, np.ndarray):
        bias = np.broadcast_to(_collapsed(second), first.result.shape[-1:])
        return Convolution(
            tf.add(first.result, bias),
            lambda channels: tf.add(first.channels(channels), bias[channels]),
        )
    first, second = _tensor(first), _tensor(second)
    if name == "max" and isinstance(second, np.ndarray) and not second.any():
        return tf.nn.relu(first)
    if name == "div" and isinstance(second, np.ndarray):
        return tf.multiply(first, (1 / second).astype(np.float32))
    return ELEMENTWISE[name](first, second)


def _convolution(x: Any, kernel: np.ndarray, params: dict[str, Any]) -> Value:
    groups, strides = params["feature_group_count"], params["window_strides"]
    dilations = params["rhs_dilation"]
    if not isinstance(kernel, np.ndarray) or set(params["lhs_dilation"]) != {1}:
        raise UserError(f"the network has a transposed or dynamic convolution, {NO_OPERATOR}")
    x, padding = _padded(x, kernel.shape[:2], strides, params["padding"], dilations, 0.0)
    if groups == 1:

        def convolved(channels: slice) -> Any:
            return tf.nn.conv2d(x, kernel[..., channels], strides, padding, dilations=dilations)

        return Convolution(convolved(slice(None)), convolved)
    if groups != x.shape[-1]:
        raise UserError(f"the network has a convolution of {groups} groups, {NO_OPERATOR}")
    kernel = kernel.transpose(0, 1, 3, 2)
    return tf.nn.depthwise_conv2d(x, kernel, (1, *strides, 1), padding, dilations=dilations)


def _split(value: Value, sizes: Sequence[int], axis: int) -> list[Any]:
    """The parts of a tensor; for the channels of a convolution, a convolution for each part.

    In integers, the parts of one tensor would share its scale. The offsets and logits of a head
    must not: the converter takes the scale of the first part, and clips larger values.
    """
    tensor = _tensor(value)
    if isinstance(value, Convolution) and axis == tensor.shape.rank - 1:
        ends = np.cumsum(sizes)
        return [
            value.channels(slice(end - size, end)) for size, end in zip(sizes, ends, strict=True)
        ]
    return tf.split(tensor, sizes, axis)


def _max_pool(given: list[Any], params: dict[str, Any], shape: tuple[int, ...]) -> Any:
    window, strides = params["window_dimensions"][1:3], params["window_strides"][1:3]
    # Pooling comes after a ReLU, so 0 is the lowest value, too.
    lowest = 0.0 if given[0].op.type == "Relu" else LOWEST
    x, padding = _padded(given[0], window, strides, params["padding"][1:3], (1, 1), lowest)
    return tf.nn.max_pool2d(x, window, strides, padding)


def _padded(
    x: Any,
    window: Sequence[int],
    strides: Sequence[int],
    pads: Sequence[tuple[int, int]],
    dilations: Sequence[int],
    value: float,
) -> tuple[Any, Any]:
    """A map, and the name of its padding: TFLite has two kinds of padding, without numbers."""
    pads = [(int(before), int(after)) for before, after in pads]
    same = []
    for size, own, stride, dilation in zip(x.shape[1:3], window, strides, dilations, strict=True):
        total = max((-(-size // stride) - 1) * stride + (own - 1) * dilation + 1 - size, 0)
        same.append((total // 2, total - total // 2))
    if pads == same:
        return x, "SAME"
    if any(map(any, pads)):
        x = tf.pad(x, [(0, 0), *pads, (0, 0)], constant_values=value)
    return x, "VALID"


def _sum(given: list[Any], params: dict[str, Any], shape: tuple[int, ...]) -> Sum:
    x, axes = given[0], tuple(params["axes"])
    if axes == (x.shape.rank - 1,):
        return Sum(tf.reduce_sum(x, -1, keepdims=True), shape)
    # A mean over cells: in integers, its range equals the range of its input.
    count = np.prod([x.shape[axis] for axis in axes]).astype(np.float32)
    return Sum(tf.reduce_mean(x, axes, keepdims=True) * count, shape)


def _broadcast(value: Value, shape: tuple[int, ...]) -> Any:
    if isinstance(value, Sum) and value.kept.shape[1:] == shape[1:]:
        return value.kept
    raise UserError(f"the network repeats values, {NO_OPERATOR}")


def _reshaped(x: Any, shape: tuple[int, ...]) -> Any:
    """Reshapes a tensor from the shape of one image, with any batch size."""
    return tf.reshape(x, (-1, *shape[1:]) if x.shape[0] is None else shape)


BY_NAME: dict[str, Callable[..., Any]] = {
    "reduce_window_max": _max_pool,
    "reduce_sum": _sum,
    "reshape": lambda given, params, shape: _reshaped(given[0], shape),
    "squeeze": lambda given, params, shape: _reshaped(given[0], shape),
    "concatenate": lambda given, params, shape: tf.concat(given, params["dimension"]),
}
