"""The values in the conversion to ONNX: outputs of nodes, and deferred operations.

A deferred operation is not a node yet, because it may become part of another node."""

from typing import Any, NamedTuple

import numpy as np

from ssd_jax.interop.equations import NUMPY

TO_CHANNELS_FIRST, TO_CHANNELS_LAST = (0, 3, 1, 2), (0, 2, 3, 1)


class Tensor(NamedTuple):
    """An output of a node.

    Attributes:
      name: its name in the graph.
      shape: its shape in JAX; `[batch, height, width, channels]` for feature maps.
      channels_first: whether its layout in the graph is `[batch, channels, height, width]`.
    """

    name: str
    shape: tuple[int, ...]
    channels_first: bool = False


class Convolution(NamedTuple):
    """A deferred convolution: products and sums with constants are folded into it."""

    x: "Value"
    weight: np.ndarray  # [new channels, channels of a group, rows, columns]
    bias: np.ndarray
    attributes: dict[str, Any]
    shape: tuple[int, ...]


class Relu(NamedTuple):
    """A deferred ReLU: with an upper limit, it becomes a clip."""

    x: "Value"
    shape: tuple[int, ...]


class Sum(NamedTuple):
    """A deferred sum over axes: a sum over the cells of a map may become their mean."""

    x: Tensor
    axes: tuple[int, ...]  # in JAX's layout
    shape: tuple[int, ...]  # without these axes, or with one entry along each


class Divided(NamedTuple):
    """A deferred division: it is folded into the weights of a convolution."""

    x: Tensor
    divisor: np.ndarray  # one number
    shape: tuple[int, ...]


Value = Tensor | Convolution | Relu | Sum | Divided | np.ndarray


def folded(name: str, value: Convolution, other: np.ndarray) -> Convolution | None:
    """Folds an operation with constants into a convolution; None if that is impossible."""
    factor = collapsed(other).ravel()
    if name not in ("add", "sub", "mul", "div") or factor.size not in (1, len(value.bias)):
        return None
    if factor.size > 1 and other.shape[-1] != len(value.bias):
        return None
    operation = NUMPY[name]
    bias = operation(value.bias, factor).astype(np.float32)
    if name in ("add", "sub"):
        return value._replace(bias=bias)
    weight = operation(value.weight, factor[:, None, None, None]).astype(np.float32)
    return value._replace(weight=weight, bias=bias)


def collapsed(array: np.ndarray) -> np.ndarray:
    """Reduces the axes along which all entries are equal to one entry."""
    for axis in range(array.ndim):
        first = np.take(array, [0], axis)
        if array.shape[axis] > 1 and (array == first).all():
            array = first
    return array


def broadcast(array: np.ndarray, rank: int, channels_first: bool) -> np.ndarray:
    """A constant in a form that broadcasts with a tensor of this rank."""
    array = collapsed(array)
    if array.size == 1:
        return array.reshape(())
    array = array.reshape((1,) * (rank - array.ndim) + array.shape)
    return array.transpose(TO_CHANNELS_FIRST) if channels_first and rank == 4 else array
