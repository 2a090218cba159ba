"""Parses files of all versions of the VGG Image Annotator: images with their regions."""

import csv
import io
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

from ssd_jax.data.formats.values import numbers, text
from ssd_jax.data.problems import Problem
from ssd_jax.errors import UserError, shown
from ssd_jax.storage.files import read_json, read_text

# The shapes of version 3 by their number, with the names of version 2.
SHAPES = {2: "rect", 3: "circle", 4: "ellipse", 1: "point"}
FIELDS = {
    "rect": ("x", "y", "width", "height"),
    "circle": ("cx", "cy", "r"),
    "ellipse": ("cx", "cy", "rx", "ry"),
    "point": ("cx", "cy"),
}


class Region(NamedTuple):
    """A region in the form of version 2.

    Attributes:
      shape: `shape_attributes`.
      attributes: `region_attributes`.
    """

    shape: Mapping[str, object]
    attributes: Mapping[str, object]


class Image(NamedTuple):
    """An image of a file.

    Attributes:
      place: its position in the file, for messages.
      name: the name, path or URL of the image.
      regions: its regions.
      problems: the problems of its entry.
    """

    place: str
    name: str
    regions: list[Region]
    problems: list[Problem]


def read_images(path: Path) -> list[Image]:
    """Reads the images of a file, in order.

    Raises:
      UserError: the file is not a file of VIA.
    """
    if path.suffix.lower() == ".csv":
        return _from_csv(path)
    content = read_json(path)
    if isinstance(content, dict) and isinstance(content.get("view"), dict):
        return list(_from_version_3(content, path))
    metadata = content.get("_via_img_metadata", content) if isinstance(content, dict) else None
    if not isinstance(metadata, dict):
        raise UserError(f"{path} is not a project or export of VIA: it lists no images")
    return [_image(f"[{key!r}]"[:80], entry) for key, entry in metadata.items()]


def _image(place: str, entry: object) -> Image:
    """Parses an image of version 1, in which regions have keys, or of version 2."""
    problems: list[Problem] = []
    name = text(entry.get("filename")) if isinstance(entry, dict) else ""
    if not isinstance(entry, dict) or not name:
        problems.append(Problem("file name", f"has no filename: {shown(entry)}"))
        return Image(place, name, [], problems)
    listed = entry.get("regions", [])
    if isinstance(listed, dict):
        listed = list(listed.values())
    if not isinstance(listed, list):
        problems.append(Problem("annotation form", f"regions is {shown(listed)}"))
        listed = []
    regions = []
    for region in listed:
        parts = region if isinstance(region, dict) else {}
        shape, attributes = parts.get("shape_attributes"), parts.get("region_attributes", {})
        if isinstance(shape, dict) and isinstance(attributes, dict):
            regions.append(Region(shape, attributes))
        else:
            problems.append(Problem("annotation form", f"a region is {shown(region)}"))
    return Image(place, name, regions, problems)


def _from_csv(path: Path) -> list[Image]:
    """Reads the images of a CSV file with a row for each region."""
    rows = csv.reader(io.StringIO(read_text(path), newline=""))
    images: dict[tuple[str, str], Image] = {}
    try:
        header = [column.strip().lstrip("#") for column in next(rows, [])]
        columns = {name: header.index(name) for name in ("filename", "file_size", "region_count")}
        columns |= {
            name: header.index(name) for name in ("region_shape_attributes", "region_attributes")
        }
        for number_of_row, row in enumerate(rows, 2):
            if row:
                _add_row(images, row, columns, f"row {number_of_row}")
    except (csv.Error, ValueError) as error:
        raise UserError(f"{path} is not a CSV file of VIA: {error}") from error
    return list(images.values())


def _add_row(
    images: dict[tuple[str, str], Image], row: list[str], columns: Mapping[str, int], place: str
) -> None:
    """Adds the region of a row to its image."""
    if len(row) <= max(columns.values()):
        found = Problem("annotation form", f"has {len(row)} columns")
        images[place, place] = Image(place, place, [], [found])
        return
    name = row[columns["filename"]].strip()
    image = Image(place, name, [], [])
    image = images.setdefault((name, row[columns["file_size"]]), image)
    if row[columns["region_count"]].strip() == "0":
        return
    parts = []
    for column in ("region_shape_attributes", "region_attributes"):
        value = row[columns[column]]
        try:
            parts.append(json.loads(value))
        except (ValueError, RecursionError):
            parts.append(None)
        if not isinstance(parts[-1], dict):
            message = f"{column} is {shown(value)}, which is not a JSON object"
            image.problems.append(Problem("annotation form", message))
    if all(isinstance(part, dict) for part in parts):
        image.regions.append(Region(*parts))


def _from_version_3(content: dict, path: Path) -> Iterator[Image]:
    """Yields the images of a project of version 3; its parts refer to each other by keys."""
    parts = [content.get(name, {}) for name in ("file", "view", "metadata", "attribute")]
    if not all(isinstance(part, dict) for part in parts):
        raise UserError(
            f"{path} is not a project of VIA 3: it needs file, view, metadata and attribute"
        )
    files, views, metadata, attributes = parts
    by_view: dict[str, list[object]] = {}
    for entry in metadata.values():
        if not isinstance(entry, dict) or entry.get("xy"):
            view = entry.get("vid") if isinstance(entry, dict) else None
            by_view.setdefault(text(view), []).append(entry)
    for key, view in views.items():
        listed = view.get("fid_list") if isinstance(view, dict) else None
        file = files.get(text(listed[0])) if isinstance(listed, list) and listed else None
        name = (text(file.get("fname")) or text(file.get("src"))) if isinstance(file, dict) else ""
        image = Image(f"view {key}", name, [], [])
        if not name:
            image.problems.append(Problem("file name", f"names no file: {shown(view)}"))
        for entry in by_view.get(key, []):
            region = _region_of_version_3(entry, attributes)
            if region:
                image.regions.append(region)
            else:
                image.problems.append(Problem("annotation form", f"a region is {shown(entry)}"))
        yield image


def _region_of_version_3(entry: object, attributes: Mapping[str, object]) -> Region | None:
    """Converts a region to the form of version 2; None if it is invalid."""
    if not isinstance(entry, dict):
        return None
    values, given = numbers(entry.get("xy")), entry.get("av", {})
    if not values or not isinstance(given, dict):
        return None
    kind, points = SHAPES.get(int(values[0]), "polygon"), values[1:]
    if kind == "polygon":
        shape = {"name": kind, "all_points_x": points[0::2], "all_points_y": points[1::2]}
    else:
        shape = {"name": kind} | dict(zip(FIELDS[kind], points, strict=False))
    named: dict[str, object] = {}
    for key, value in given.items():
        attribute = attributes.get(key)
        if not isinstance(attribute, dict):
            return None
        options = attribute.get("options")
        options = options if isinstance(options, dict) else {}
        chosen = [part for part in text(value).split(",")] if options else [text(value)]
        names = [text(options.get(part, part)) for part in chosen]
        named[text(attribute.get("aname"))] = dict.fromkeys((n for n in names if n), True)
    return Region(shape, named)
