"""Finds the known name that is nearest to a mistyped one."""

import difflib
import os
from collections.abc import Callable, Iterable
from pathlib import Path


def nearest(name: str, known: Iterable[str]) -> str:
    """The nearest known name, ignoring case; "" if none is near."""
    lower = {each.lower(): each for each in known}
    found = difflib.get_close_matches(name.strip().lower(), lower, n=1)
    return lower[found[0]] if found else ""


def did_you_mean(name: str, known: Iterable[str], prefix: str = "") -> str:
    """`: did you mean NAME?` with the nearest known name; "" if none is near.

    Args:
      name: the given name.
      known: the valid names.
      prefix: text before the suggested name.
    """
    near = nearest(name, known)
    return f": did you mean {prefix}{near}?" if near else ""


def did_you_mean_path(path: str | Path, allowed: Callable[[Path], bool] = Path.exists) -> str:
    """`: did you mean PATH?` with the nearest name in the same folder; "" if none is near.

    Args:
      path: of a file or folder that does not exist.
      allowed: whether a neighbour in the folder may be suggested.
    """
    path = Path(path)
    try:
        names = [name for name in os.listdir(path.parent) if allowed(path.parent / name)]
    except OSError:
        return ""
    # A suffix in common makes no name similar.
    stems = {name.removesuffix(path.suffix): name for name in sorted(names)}
    near = nearest(path.name.removesuffix(path.suffix), stems)
    return f": did you mean {path.with_name(stems[near])}?" if near else ""
