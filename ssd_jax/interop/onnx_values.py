"""What the nodes of a graph of ONNX give, and what is put off to become part of another node."""

from typing import Any, NamedTuple

import numpy as np

from ssd_jax.interop.equations import NUMPY

TO_CHANNELS_FIRST, TO_CHANNELS_LAST = (0, 3, 1, 2), (0, 2, 3, 1)


class Tensor(NamedTuple):
    """What a node gives.

    Attributes:
      name: in the graph.
      shape: as JAX has it; `[batch, height, width, channels]` for feature maps.
      channels_first: whether the graph has `[batch, channels, height, width]` there.
    """

    name: str
    shape: tuple[int, ...]
    channels_first: bool = False


class Convolution(NamedTuple):
    """A convolution that is no node yet: what is multiplied or added becomes part of it."""

    x: "Value"
    weight: np.ndarray  # [new channels, channels of a group, rows, columns]
    bias: np.ndarray
    attributes: dict[str, Any]
    shape: tuple[int, ...]


class Relu(NamedTuple):
    """A ReLU that is no node yet: with an upper limit it becomes a clip."""

    x: "Value"
    shape: tuple[int, ...]


class Sum(NamedTuple):
    """A sum over axes that is no node yet: one over the cells of a map may become their mean."""

    x: Tensor
    axes: tuple[int, ...]  # as JAX has them
    shape: tuple[int, ...]  # without these axes, or with one entry along each


class Divided(NamedTuple):
    """A division that is no node yet: a convolution does it by its weights."""

    x: Tensor
    divisor: np.ndarray  # one number
    shape: tuple[int, ...]


Value = Tensor | Convolution | Relu | Sum | Divided | np.ndarray


def folded(name: str, value: Convolution, other: np.ndarray) -> Convolution | None:
    """A convolution with an operation by constants in its weights; None where that cannot be."""
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
    """An array with one entry along the axes along which all are the same."""
    for axis in range(array.ndim):
        first = np.take(array, [0], axis)
        if array.shape[axis] > 1 and (array == first).all():
            array = first
    return array


def broadcast(array: np.ndarray, rank: int, channels_first: bool) -> np.ndarray:
    """A constant beside a tensor of this rank."""
    array = collapsed(array)
    if array.size == 1:
        return array.reshape(())
    array = array.reshape((1,) * (rank - array.ndim) + array.shape)
    return array.transpose(TO_CHANNELS_FIRST) if channels_first and rank == 4 else array
