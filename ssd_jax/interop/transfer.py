"""Fills a network with the matching arrays of other weights, and reports on each array."""

import collections
import re
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import jax
import numpy as np

from ssd_jax.errors import counted
from ssd_jax.models.network import Variables, path_name

# By path: the names of the modules and of the array, joined by slashes.
Arrays = Mapping[str, np.ndarray]

COPIED = "copied"  # the status of an array that was filled completely

# COCO's names of classes of Pascal VOC, without spaces.
SYNONYMS = {
    "airplane": "aeroplane",
    "motorcycle": "motorbike",
    "couch": "sofa",
    "tv": "tvmonitor",
}


class Classes(NamedTuple):
    """The class lists of the network and of the weights, to copy the rows of classifiers.

    Attributes:
      wanted: the classes of the new network, in the order of its labels.
      given: the classes of the weights, in the same order; empty for weights without classifiers.
    """

    wanted: Sequence[str]
    given: Sequence[str] = ()


class Transfer(NamedTuple):
    """The result of `transfer`.

    Attributes:
      variables: parameters and batch statistics, filled.
      statuses: the path, shape and status of every array of the network, in its order.
      unused: the paths of given arrays that were not used.
      num_filled: the number of arrays that were filled completely or in part.
    """

    variables: tuple[Variables, Variables]
    statuses: list[tuple[str, tuple[int, ...], str]]
    unused: list[str]
    num_filled: int


def flatten(variables: tuple[Variables, Variables]) -> dict[str, np.ndarray]:
    """Parameters and batch statistics by path; their names are different."""
    leaves = jax.tree_util.tree_flatten_with_path(variables)[0]
    return {path_name(path[1:]): leaf for path, leaf in leaves}


def transfer(
    variables: tuple[Variables, Variables],
    given: Arrays,
    classes: Classes,
    boxes_per_cell: Sequence[int],
) -> Transfer:
    """Copies the arrays with the same path and shape.

    Classifiers copy the background and the classes of both lists, also with another number or order
    of classes; other classes keep their new values. See `_same_classes`.

    Args:
      variables: the variables of a new network.
      given: other weights.
      classes: the classes of the classifiers' rows.
      boxes_per_cell: the boxes per cell of the new network's tiling.
    """
    leaves, structure = jax.tree_util.tree_flatten_with_path(variables)
    filled, statuses, num_filled = [], [], 0
    for (_, *path), new in leaves:
        name = path_name(path)
        value, status = None, "new: not in the weights"
        if name in given and _is_classifier(name):
            boxes = boxes_per_cell[int(name.split("/")[2])]
            value, status = _copy_classes(np.asarray(new), given[name], classes, boxes)
        elif name in given and given[name].shape == new.shape:
            value, status = np.asarray(given[name], new.dtype), COPIED
        elif name in given:
            status = f"new: in the weights it is {_shape_name(given[name].shape)}"
        num_filled += value is not None
        filled.append(new if value is None else value)
        statuses.append((name, tuple(new.shape), status))
    return Transfer(
        variables=jax.tree.unflatten(structure, filled),
        statuses=statuses,
        unused=sorted(set(given) - {name for name, _, _ in statuses}),
        num_filled=num_filled,
    )


def format_transfer(result: Transfer) -> str:
    """Formats a line for every array of the network, and for every unused array."""
    rows = [(name, _shape_name(shape), status) for name, shape, status in result.statuses]
    rows += [(name, "", "not used") for name in result.unused]
    widths = [max(len(row[i]) for row in rows) for i in range(2)]
    return "\n".join(
        f"{name:<{widths[0]}}  {shape:>{widths[1]}}  {status}" for name, shape, status in rows
    )


def summarise_transfer(result: Transfer) -> str:
    """Formats a summary for a terminal: a line for each part of the network and each result."""
    statuses = [
        (
            name.partition("/")[0],
            "new: of another shape in the weights" if ": in" in status else status,
        )
        for name, _, status in result.statuses
    ]
    statuses += [(name.partition("/")[0], "not used") for name in result.unused]
    rows = [
        (part, counted(count, "array"), status)
        for (part, status), count in collections.Counter(statuses).items()
    ]
    widths = [max(len(row[i]) for row in rows) for i in range(2)]
    return "\n".join(
        f"{part:<{widths[0]}}  {count:>{widths[1]}}  {status}" for part, count, status in rows
    )


def _is_classifier(name: str) -> bool:
    return name.startswith("heads/logits/") and "/depthwise/" not in name


def _copy_classes(
    new: np.ndarray, given: np.ndarray, classes: Classes, boxes: int
) -> tuple[np.ndarray | None, str]:
    """Copies the classes of a classifier's array, whose last axis is boxes of (background, …)."""
    num_given = 1 + len(classes.given)
    if given.shape[:-1] != new.shape[:-1] or given.shape[-1] != boxes * num_given:
        return None, f"new: in the weights it is {_shape_name(given.shape)}"
    rows = [(0, 0), *_same_classes(classes)]
    wanted_rows, given_rows = np.array(rows).T
    value = new.reshape(*new.shape[:-1], boxes, -1).copy()
    value[..., wanted_rows] = given.reshape(*given.shape[:-1], boxes, num_given)[..., given_rows]
    status = f"background and {len(rows) - 1} of {len(classes.wanted)} classes copied by name"
    return value.reshape(new.shape), status


def _same_classes(classes: Classes) -> list[tuple[int, int]]:
    """The rows of classes in both lists, as (wanted, given).

    Equal names are matched first. Names that differ in capitals or signs, or are `SYNONYMS`, are
    the same class if each list has exactly one of them.
    """
    given_rows = {name: row for row, name in enumerate(classes.given, start=1)}
    wanted, given = (
        collections.Counter(map(_canonical, names)) for names in (classes.wanted, classes.given)
    )
    alone = {
        _canonical(name): row
        for name, row in given_rows.items()
        if wanted[_canonical(name)] == given[_canonical(name)] == 1
    }
    rows = []
    for row, name in enumerate(classes.wanted, start=1):
        found = given_rows.get(name) or alone.get(_canonical(name))
        if found:
            rows.append((row, found))
    return rows


def _canonical(class_name: str) -> str:
    """A common form of different spellings of a class; a name of only signs is unchanged."""
    name = re.sub(r"[\W_]", "", class_name.casefold())
    return SYNONYMS.get(name, name) or class_name


def _shape_name(shape: Sequence[int]) -> str:
    return "×".join(map(str, shape))
