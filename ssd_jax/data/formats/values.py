"""Parses numbers, texts and image names of annotation files."""

import re
from pathlib import Path

from ssd_jax.data.problems import MAX_PIXEL

NUMBER = re.compile(r"\s*[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?\s*", re.ASCII)


def number(value: object, limit: float = MAX_PIXEL) -> float | None:
    """A number, which may be written as text; None for anything else.

    Args:
      value: a value of an annotation file.
      limit: the largest absolute value; larger values, NaN and infinity give None.
    """
    if isinstance(value, str):
        value = float(value) if len(value) < 100 and NUMBER.fullmatch(value) else None
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(value) if abs(value) <= limit else None


def numbers(values: object) -> list[float] | None:
    """The numbers of a list; None for other values and if an item is not a number."""
    if not isinstance(values, list | tuple):
        return None
    found = [number(value) for value in values]
    return None if None in found else [value for value in found if value is not None]


def text(value: object) -> str:
    """A text without blanks around it, or an integer as text; "" for anything else.

    Texts that cannot be written to a file or be part of a path give "".
    """
    if isinstance(value, int) and not isinstance(value, bool) and abs(value) < MAX_PIXEL:
        return str(value)
    if not isinstance(value, str) or "\0" in value:
        return ""
    try:
        value.encode()
    except UnicodeEncodeError:  # half a surrogate pair
        return ""
    return value.strip()


def extremes(points: object) -> tuple[float, float, float, float] | None:
    """The bounding box `xyxy` of points [[x, y], …]; None for other values."""
    pairs = [numbers(point) for point in points] if isinstance(points, list) else []
    known = [pair for pair in pairs if pair is not None and len(pair) >= 2]
    if not known or len(known) < len(pairs):
        return None
    x, y = [pair[0] for pair in known], [pair[1] for pair in known]
    return min(x), min(y), max(x), max(y)


def image_id_of(path: Path, folder: Path) -> str:
    """The path of an image below its folder, without its suffix."""
    return path.relative_to(folder).with_suffix("").as_posix()
