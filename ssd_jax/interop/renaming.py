"""Renames and reorders tensors of other implementations into arrays of ours, and back."""

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
      arrays: by our paths, laid out as ours.
      their_names: maps the path of every array of the network to its name in the other layout.
      left_over: names of tensors for which the network has no place.
    """

    arrays: Arrays
    their_names: dict[str, str]
    left_over: list[str]


class _Place(NamedTuple):
    """One array of a network.

    Attributes:
      path: of the array, with slashes.
      module: names on the way to the module.
      leaf: name of the array within the module.
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
      layout: how its tensors are stored.
      variables: of the network; only structure and shapes matter.
      boxes_per_cell: of the network's tiling.
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
            # Batch norm subtracts what a bias of the convolution before it adds.
            bias = _tensor_name(layout, [*place.module[:-1], "conv"], "bias")
            used.add(bias)
            value = value - tensors.get(bias, 0)
        arrays[place.path] = value
    left_over = sorted(
        name
        for name in set(tensors) - used
        # The number of batches that a batch norm has seen is not needed.
        if not (name.endswith("num_batches_tracked") or name.startswith(layout.unread))
    )
    return Renamed(arrays, their_names, left_over)


def to_pytorch(
    variables: tuple[Variables, Variables], layout: Layout, boxes_per_cell: Sequence[int]
) -> dict[str, np.ndarray]:
    """A network's arrays as the tensors of a layout: the inverse of `rename`, bit for bit.

    Args:
      variables: parameters and batch statistics.
      layout: how the tensors are to be stored.
      boxes_per_cell: of the network's tiling.
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
    """A tensor of a layout, laid out as the array of ours."""
    if place.leaf == "kernel" and value.ndim == 4:
        value = value.transpose(2, 3, 1, 0)
        if layout.reads_bgr and value.shape[2] == 3:
            value = value[:, :, ::-1]
    elif ".".join((*place.module, place.leaf)) in layout.names:
        value = value.reshape(-1)  # L2Norm: Caffe keeps it in four dimensions
    if value.shape != place.array.shape:
        return value  # of another number of classes or boxes
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
    """An array of ours, laid out as the tensor of a layout: the inverse of `_to_ours`."""
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
    """Default boxes of a cell that a head's array predicts; 0 for any other array."""
    return boxes_per_cell[int(place.module[2])] if place.module[0] == "heads" else 0


def _is_reordered(layout: Layout, place: _Place) -> bool:
    """Whether the last axis is boxes of values here and values of boxes there."""
    return layout.values_first and place.module[0] == "heads" and "depthwise" not in place.module


def _has_background_last(layout: Layout, place: _Place) -> bool:
    return layout.background_last and place.module[:2] == ["heads", "logits"]


def _tensor_name(layout: Layout, module: Sequence[str], leaf: str) -> str:
    """The layout's name for an array of ours; our own name where it has none."""
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
