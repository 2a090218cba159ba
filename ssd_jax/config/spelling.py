"""Finds what a mistyped name was meant to be."""

import difflib
from collections.abc import Iterable


def nearest(name: str, known: Iterable[str]) -> str:
    """The known name that is nearest, whatever its capitals; "" where none is near."""
    lower = {each.lower(): each for each in known}
    found = difflib.get_close_matches(name.strip().lower(), lower, n=1)
    return lower[found[0]] if found else ""


def did_you_mean(name: str, known: Iterable[str], prefix: str = "") -> str:
    """`: did you mean NAME?` with the known name that is nearest; "" where none is near.

    Args:
      name: what was given.
      known: what could be meant.
      prefix: put before the name that was found.
    """
    near = nearest(name, known)
    return f": did you mean {prefix}{near}?" if near else ""
