"""Parses values of COCO's JSON: numbers that may be text, ids of both types, outlines."""

import math
import re
from collections.abc import Sequence

import numpy as np

from ssd_jax.data.formats.values import number, text
from ssd_jax.data.problems import MAX_PIXEL, Problem
from ssd_jax.errors import shown

YES_AND_NO = {"true": True, "yes": True, "false": False, "no": False}


def flag(value: object) -> bool | None:
    """The value of a flag: False if it is not given, None if it is invalid."""
    if value is None or value == "":
        return False
    if isinstance(value, bool):
        return value
    if isinstance(value, str) and value.strip().lower() in YES_AND_NO:
        return YES_AND_NO[value.strip().lower()]
    found = number(value)
    return None if found is None else found != 0


def identity(value: object) -> int | str | None:
    """The id of an entry: "1", 1 and 1.0 are equal; None for a value that is not an id."""
    if isinstance(value, bool):
        return None
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, int):
        return value
    if not is_text(value):
        return None
    value = str(value).strip()
    return int(value) if re.fullmatch(r"0|-?[1-9][0-9]{0,17}", value) else value


def is_text(value: object) -> bool:
    """Whether a value is a string that can be written to a file and be part of a path."""
    return isinstance(value, str) and bool(text(value))


def box_of(value: object) -> tuple[float, float, float, float] | None:
    """The corners of a box given as x, y, width and height; None for an invalid one."""
    if not isinstance(value, list) or len(value) != 4:
        return None
    x, y, width, height = map(number, value)
    if x is None or y is None or width is None or height is None:
        return None
    return x, y, x + width, y + height


def box_of_entry(entry: dict) -> tuple[float, float, float, float] | None:
    """The corners of an object's box, or of the bounding box of its outline; None without both."""
    box = box_of(entry.get("bbox"))
    if box is None and not entry.get("bbox"):
        box = box_of_outline(entry.get("segmentation"))
    return box


def name_of(image: dict) -> str | None:
    """The name of an image's file; None if it has none."""
    return next(filter(is_text, map(image.get, ("file_name", "path", "coco_url"))), None)


def size_of(image: dict, place: str, found: list[Problem]) -> tuple[float, float] | None:
    """(height, width) of an image; None if not stated or invalid, with a problem in `found`."""
    stated = image.get("height"), image.get("width")
    if any(value is None or value == "" for value in stated):
        return None
    height, width = map(number, stated)
    if height is None or width is None or height < 0 or width < 0:
        sides = shown(stated[::-1])
        message = f"{place} has the width and height {sides}, which are not pixels"
        found.append(Problem("size", message))
        return None
    return height, width


def box_of_outline(segmentation: object) -> tuple[float, float, float, float] | None:
    """The bounding box of polygons, or of a run-length encoded mask; None if invalid."""
    if isinstance(segmentation, dict):
        return _box_of_runs(segmentation)
    if not isinstance(segmentation, list):
        return None
    polygons = (
        segmentation if segmentation and isinstance(segmentation[0], list) else [segmentation]
    )
    coordinates: list[float] = []
    for polygon in polygons:
        values = [number(value) for value in polygon] if isinstance(polygon, list) else [None]
        known = [value for value in values if value is not None]
        if len(known) != len(values) or len(known) % 2:
            return None
        coordinates += known
    if not coordinates:
        return None
    x, y = coordinates[0::2], coordinates[1::2]
    return min(x), min(y), max(x), max(y)


def _box_of_runs(mask: dict) -> tuple[float, float, float, float] | None:
    """The bounding box of a run-length encoded mask.

    Runs outside and inside the object alternate, column by column.
    """
    size, counts = mask.get("size"), mask.get("counts")
    if not isinstance(size, list) or len(size) != 2 or not isinstance(counts, list | str):
        return None
    height, width = (number(side) for side in size)
    runs = (
        decoded_runs(counts) if isinstance(counts, str) else [number(run, 1e18) for run in counts]
    )
    lengths = [int(run) for run in runs if run is not None and run >= 0]
    if not height or not width or len(lengths) != len(runs) or sum(lengths) > height * width:
        return None
    ends = np.cumsum(lengths, dtype=np.int64)
    starts, ends = ends[0::2][: len(ends) // 2], ends[1::2]
    starts, ends = starts[ends > starts], ends[ends > starts] - 1  # the last pixel of each run
    if not len(starts):
        return None
    rows = int(height)
    spans_columns = starts // rows < ends // rows
    top = np.where(spans_columns, 0, starts % rows)
    bottom = np.where(spans_columns, rows - 1, ends % rows)
    return (
        float((starts // rows).min()),
        float(top.min()),
        float((ends // rows).max() + 1),
        float(bottom.max() + 1),
    )


def decoded_runs(encoded: str) -> Sequence[int | None]:
    """Decodes run lengths in the compressed form of COCO's tools (`rleFrString`).

    Each length is written in groups of five bits, the lowest group first, as characters from "0".
    From the fourth length on, the difference to the length two before is written.
    """
    runs: list[int | None] = []
    value, shift = 0, 0
    for sign in encoded:
        bits = ord(sign) - 48
        if not 0 <= bits < 64 or shift > 60:
            return [None]
        value |= (bits & 31) << shift
        shift += 5
        if not bits & 32:
            if bits & 16:
                value -= 1 << shift
            before = runs[-2] if len(runs) > 2 else 0
            runs.append(value + (before or 0))
            value, shift = 0, 0
    return runs if not shift else [None]


def area_of(value: object) -> float | None:
    """An area; NaN if not given, None for any other value that is not a number."""
    if value is None or value == "":
        return math.nan
    if isinstance(value, bool):
        return float(value)
    return number(value, MAX_PIXEL**2)
