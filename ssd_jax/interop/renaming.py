"""Converts tensors of other implementations to our arrays, and back: names and layouts."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from ssd_jax.interop.pytorch_layouts import Layout
from ssd_jax.interop.transfer import Arrays
from ssd_jax.models.network import Variables, path_name


class Renamed(NamedTuple):
    """Tensors of another implementation under our names.

    Attributes:
      arrays: the arrays by our paths, in our layout.
      their_names: the name in the other layout, by the path of every array of the network.
      left_over: the names of tensors that the network does not have.
    """

    arrays: Arrays
    their_names: dict[str, str]
    left_over: list[str]


class _Place(NamedTuple):
    """One array of a network.

    Attributes:
      path: the path of the array, with slashes.
      module: the names in the path of the module.
      leaf: the name of the array within the module.
      array: the array, or its shape and type.
    """

    path: str
    module: list[str]
    leaf: str
    array: Any


def rename(
    tensors: Mapping[str, np.ndarray],
    layout: Layout,
    variables: tuple[Variables, Variables],
    boxes_per_cell: Sequence[int],
) -> Renamed:
    """Finds the tensors of a network's arrays.

    Args:
      tensors: a state dict as NumPy arrays.
      layout: the layout of the tensors.
      variables: the variables of the network; only structure and shapes matter.
      boxes_per_cell: the boxes per cell of the network's tiling.
    """
    arrays, their_names, used = {}, {}, set()
    for place in _places(variables):
        name = _tensor_name(layout, place.module, place.leaf)
        their_names[place.path] = name
        used.add(name)
        if name not in tensors:
            continue
        value = _to_ours(tensors[name], layout, place, boxes_per_cell)
        if place.leaf == "mean":
            # Batch norm subtracts the bias of the convolution before it.
            bias = _tensor_name(layout, [*place.module[:-1], "conv"], "bias")
            used.add(bias)
            value = value - tensors.get(bias, 0)
        arrays[place.path] = value
    left_over = sorted(
        name
        for name in set(tensors) - used
        # The batch counter of batch norm is not needed.
        if not (name.endswith("num_batches_tracked") or name.startswith(layout.unread))
    )
    return Renamed(arrays, their_names, left_over)


def to_pytorch(
    variables: tuple[Variables, Variables], layout: Layout, boxes_per_cell: Sequence[int]
) -> dict[str, np.ndarray]:
    """Converts a network's arrays to the tensors of a layout: the exact inverse of `rename`.

    Args:
      variables: parameters and batch statistics.
      layout: the layout of the tensors.
      boxes_per_cell: the boxes per cell of the network's tiling.
    """
    return {
        _tensor_name(layout, place.module, place.leaf): np.ascontiguousarray(
            _to_theirs(np.asarray(place.array), layout, place, boxes_per_cell)
        )
        for place in _places(variables)
    }


def _places(variables: tuple[Variables, Variables]) -> Iterator[_Place]:
    for (_, *path), array in jax.tree_util.tree_flatten_with_path(variables)[0]:
        names = path_name(path).split("/")
        yield _Place("/".join(names), names[:-1], names[-1], array)


def _to_ours(
    value: np.ndarray, layout: Layout, place: _Place, boxes_per_cell: Sequence[int]
) -> np.ndarray:
    """Converts a tensor of a layout to our layout."""
    if place.leaf == "kernel" and value.ndim == 4:
        value = value.transpose(2, 3, 1, 0)
        if layout.reads_bgr and value.shape[2] == 3:
            value = value[:, :, ::-1]
    elif ".".join((*place.module, place.leaf)) in layout.names:
        value = value.reshape(-1)  # L2Norm: four dimensions in Caffe
    if value.shape != place.array.shape:
        return value  # another number of classes or boxes
    boxes = _boxes(place, boxes_per_cell)
    if _is_reordered(layout, place):
        by_value = value.reshape(*value.shape[:-1], -1, boxes)
        value = by_value.swapaxes(-1, -2).reshape(value.shape)
    if _has_background_last(layout, place):
        by_box = value.reshape(*value.shape[:-1], boxes, -1)
        value = np.roll(by_box, 1, axis=-1).reshape(value.shape)
    return value


def _to_theirs(
    value: np.ndarray, layout: Layout, place: _Place, boxes_per_cell: Sequence[int]
) -> np.ndarray:
    """Converts our array to the tensor of a layout: the inverse of `_to_ours`."""
    boxes = _boxes(place, boxes_per_cell)
    if _has_background_last(layout, place):
        by_box = value.reshape(*value.shape[:-1], boxes, -1)
        value = np.roll(by_box, -1, axis=-1).reshape(value.shape)
    if _is_reordered(layout, place) and boxes:
        by_box = value.reshape(*value.shape[:-1], boxes, -1)
        value = by_box.swapaxes(-1, -2).reshape(value.shape)
    if place.leaf == "kernel":
        if layout.reads_bgr and value.shape[2] == 3:
            value = value[:, :, ::-1]
        value = value.transpose(3, 2, 0, 1)
    return value


def _boxes(place: _Place, boxes_per_cell: Sequence[int]) -> int:
    """The number of default boxes per cell in a head's array; 0 for other arrays."""
    return boxes_per_cell[int(place.module[2])] if place.module[0] == "heads" else 0


def _is_reordered(layout: Layout, place: _Place) -> bool:
    """Whether the last axis is (boxes, values) in our layout and (values, boxes) in the other."""
    return layout.values_first and place.module[0] == "heads" and "depthwise" not in place.module


def _has_background_last(layout: Layout, place: _Place) -> bool:
    return layout.background_last and place.module[:2] == ["heads", "logits"]


def _tensor_name(layout: Layout, module: Sequence[str], leaf: str) -> str:
    """The layout's name for our array; our name if it has none."""
    path = ".".join(module)
    whole = f"{path}.{leaf}"
    if path in layout.names:
        theirs = {
            "kernel": layout.weight,
            "scale": "weight",
            "bias": layout.bias,
            "mean": "running_mean",
            "var": "running_var",
        }
        return f"{layout.names[path]}.{theirs[leaf]}"
    return layout.names.get(whole, whole)
