"""Finds the known name that is nearest to a mistyped one."""

import difflib
from collections.abc import Iterable


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
