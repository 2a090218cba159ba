"""Finds what a mistyped name was meant to be."""

import difflib
from collections.abc import Iterable


def did_you_mean(name: str, known: Iterable[str], prefix: str = "") -> str:
    """`: did you mean NAME?` with the known name that is nearest; "" where none is near.

    Args:
      name: what was given.
      known: what could be meant.
      prefix: put before the name that was found.
    """
    near = difflib.get_close_matches(name, known, n=1)
    return f": did you mean {prefix}{near[0]}?" if near else ""
