"""Chooses the classes of a data set, from its classes and the requested ones."""

import logging
from collections.abc import Mapping, Sequence

from ssd_jax.data.classes import Classes, check_chosen, check_known, is_misspelt
from ssd_jax.data.read_part import ReadPart
from ssd_jax.errors import UserError, counted, first_names

logger = logging.getLogger(__name__)


def choose_training_classes(
    parts: Sequence[ReadPart],
    class_names: Sequence[str],
    class_map: Mapping[str, str],
    spec: str,
) -> Classes:
    """`choose_classes` for training: rejects names that the data does not have.

    Raises:
      UserError: see `choose_classes`, `check_known` and `check_chosen`.
    """
    check_known(class_map, all_names(parts), "config.data.class_map", spec)
    classes = choose_classes(parts, class_names, class_map)
    there = {classes.renamed.get(name, name) for name in all_names(parts)}
    check_chosen(class_names, there, spec)
    return classes


def choose_classes(
    parts: Sequence[ReadPart], class_names: Sequence[str], class_map: Mapping[str, str]
) -> Classes:
    """Chooses the classes of a data set.

    Args:
      parts: the parts of the data set.
      class_names: the classes to use; the classes of the parts if empty.
      class_map: see `open_dataset`.

    Raises:
      UserError: the parts have different classes or none.
    """
    origin = ", ".join(part.origin for part in parts)
    if class_names:
        return Classes(tuple(class_names), dict(class_map))
    declared, found = _declared_names(parts), _occurring_names(parts)
    renamed = [class_map.get(name, name) for name in declared or sorted(found)]
    names = [name for name in dict.fromkeys(renamed) if name]
    used = {class_map.get(name, name) for name in found}
    absent = [name for name in names if name not in used]
    if absent:
        logger.warning(
            "%s: left out %s without any object: %s (name the classes to use in "
            "config.data.classes to keep them)",
            *(origin, counted(len(absent), "declared class"), first_names(absent, 20)),
        )
    names = [name for name in names if name in used]
    for i, name in enumerate(names):
        for other in names[:i]:
            if is_misspelt(name, other):
                logger.warning(
                    "%s: the classes %r and %r have similar names: join them with "
                    "config.data.class_map=%s=%s if they are the same class",
                    *(origin, other, name, name, other),
                )
    if not names:
        raise UserError(f"{origin}: no image has an object, so there are no classes to learn")
    return Classes(tuple(names), dict(class_map))


def all_names(parts: Sequence[ReadPart]) -> set[str]:
    """The classes that are declared in parts or occur in them."""
    return {name for part in parts for name in (*(part.category_ids or ()), *part.names)}


def _declared_names(parts: Sequence[ReadPart]) -> tuple[str, ...]:
    """The declared classes of parts, in their order; () without declared classes."""
    declaring = [part for part in parts if part.category_ids is not None]
    declared = {tuple(part.category_ids or ()) for part in declaring}
    if len(declared) > 1:
        names = " and ".join(part.origin for part in declaring)
        raise UserError(
            f"{names} have different classes: name the classes to use in config.data.classes"
        )
    return declared.pop() if declared else ()


def _occurring_names(parts: Sequence[ReadPart]) -> set[str]:
    """The classes that occur; all classes of a part whose objects are not known before reading."""
    names = set()
    for part in parts:
        counts = part.num_objects()
        names |= set(part.names) if counts is None else {n for n, c in counts.items() if c}
    return names


def category_ids(
    parts: Sequence[ReadPart], classes: Classes
) -> tuple[tuple[int, ...], dict[int, int]]:
    """The ids of the classes in results.

    Returns:
      The ids in the first part that has all classes, otherwise 1, 2, …; and labels by additional
      ids, if the part has a class under several names.
    """
    for part in parts:
        ids: dict[str, int] = {}
        merged: dict[int, int] = {}
        for name, number in (part.category_ids or {}).items():
            label = classes.label(name)
            if label and ids.setdefault(classes.names[label - 1], number) != number:
                merged[number] = label
        if set(classes.names) <= set(ids):
            return tuple(ids[name] for name in classes.names), merged
    return tuple(range(1, len(classes.names) + 1)), {}
