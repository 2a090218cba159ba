"""Reads annotations in COCO's JSON format, written by COCO or exported by other tools."""

import json
import logging
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

from ssd_jax.data.annotations import Annotations
from ssd_jax.data.column_cache import Cached, cached
from ssd_jax.data.columns import Columns, Repeated
from ssd_jax.data.file_tree import FileTree
from ssd_jax.data.formats.arguments import file_and_folder
from ssd_jax.data.formats.coco_matching import CocoFile, match
from ssd_jax.data.formats.coco_rows import (
    Ids,
    ImageRows,
    ObjectRows,
    decode_images,
    decode_objects,
)
from ssd_jax.data.formats.coco_values import identity, is_text
from ssd_jax.data.formats.json_arrays import NotJsonError, read_arrays
from ssd_jax.data.problems import Problems
from ssd_jax.errors import UserError, shown
from ssd_jax.storage.text_pieces import place_of, utf8_pieces

logger = logging.getLogger(__name__)

FORM_TRIED = 1000  # the number of boxes that are checked for corners instead of sizes
FORM = (
    "COCO's format has 'images' with id, file_name, width and height, 'annotations' with image_id, "
    "category_id and bbox, and 'categories' with id and name"
)

DECODERS = {"images": decode_images, "annotations": decode_objects, "categories": json.loads}


def open_coco_json(annotations: str, image_dir: str, problems: Problems) -> Annotations:
    """Reads one annotation file, in its order.

    Numbers may be text. Missing sizes are read from the images, and a missing box is computed
    from the outline. In a file without `annotations`, no image has objects.

    Args:
      annotations: a file like `instances_val2017.json`.
      image_dir: the folder of its images.
      problems: handles damaged images and annotations.

    Returns:
      The annotations. Their category ids are sorted and need not be consecutive: COCO's 80
      classes have ids from 1 to 90.

    Raises:
      UserError: the file or the folder is missing or cannot be understood, or `problems` stops; the
        message names the file.
    """
    spec, path, folder = file_and_folder("coco_json", annotations, image_dir)
    tree, damaged = FileTree(folder), len(problems.found)

    def read() -> tuple[Cached, bool]:
        columns, details = _read(path, tree, problems)
        return Cached(columns, details), len(problems.found) == damaged

    columns, details = cached(path, tree, read)
    ids = _ids_by_name(details["categories"], path)
    problems.num_images += details["num_images"]
    if details["unlisted"] and not problems.found:
        logger.info("%s: left out %s", path, details["unlisted"])
    files = Repeated(str(path), len(columns))
    return Annotations.of_columns(columns, files, details["classes"], spec, ids)


def _read(path: Path, tree: FileTree, problems: Problems) -> tuple[Columns, dict[str, Any]]:
    """Reads the columns of a file.

    Returns:
      The columns, and details: `num_images`, the number of images in the file; `categories`,
      their ids and names; `classes`, the names of the classes in the columns; `unlisted`, a
      description of the images of the folder that the file does not list.
    """
    content = _parse(path)
    names = _category_names(content.categories, path)
    if not len(content.images):
        raise UserError(f"{path} lists no images")
    _check_form(content.objects, path)
    file = CocoFile(path, tree, names, content.ids)
    columns, classes, unlisted = match(content.images, content.objects, file, problems)
    details = {
        "num_images": len(content.images),
        "categories": list(names.items()),
        "classes": classes,
        "unlisted": unlisted,
    }
    return columns, details


class _Content(NamedTuple):
    """The content of a file.

    Attributes:
      images: one row per image.
      objects: one row per object.
      categories: the categories, unchanged.
      ids: the ids of images and categories.
    """

    images: ImageRows
    objects: ObjectRows
    categories: list
    ids: Ids


def _parse(path: Path) -> _Content:
    """Reads a file piece by piece.

    Raises:
      UserError: the file is not JSON, or lacks one of the lists.
    """
    ids = Ids()
    lists: dict[str, ImageRows | ObjectRows | list | None] = {"annotations": ObjectRows(ids)}
    try:
        for part in read_arrays(utf8_pieces(path), DECODERS):
            if part.is_first:
                new = {"images": ImageRows(ids), "annotations": ObjectRows(ids), "categories": []}
                is_list = part.items is not None or (part.name == "annotations" and part.is_null)
                lists[part.name] = new[part.name] if is_list else None
            own = lists[part.name]
            if isinstance(own, ImageRows):
                own.add(part.items or (), part.text)
            elif isinstance(own, ObjectRows):
                own.add(part.items or ())
            elif own is not None:
                own += part.items or ()
    except NotJsonError as error:
        place = place_of(path, error.offset)
        raise UserError(f"{path} is not JSON: {error.reason}: {place}") from error
    images, objects = lists.get("images"), lists.get("annotations")
    categories = lists.get("categories")
    for name, own in (("images", images), ("annotations", objects), ("categories", categories)):
        if own is None:
            raise UserError(f"{path} is not in COCO's format: it has no list {name!r}: {FORM}")
    assert isinstance(images, ImageRows) and isinstance(objects, ObjectRows)
    assert isinstance(categories, list)
    return _Content(images, objects, categories, ids)


def _category_names(listed: list, path: Path) -> dict[int, str]:
    """Names by id, in the order of the ids."""
    names: dict[int, str] = {}
    for index, category in enumerate(listed):
        name = category.get("name") if isinstance(category, dict) else None
        category_id = identity(category.get("id")) if isinstance(category, dict) else None
        if not isinstance(category_id, int) or not isinstance(name, str) or not is_text(name):
            raise UserError(
                f"{path} is not in COCO's format: categories[{index}] is {shown(category)}, but "
                "needs an id, which is a whole number, and a name"
            )
        name = name.strip()
        if names.setdefault(category_id, name) != name:
            raise UserError(
                f"{path}: the categories {shown(names[category_id])} and {shown(name)} have the "
                f"same id, {category_id}: give each a different id, also in its annotations"
            )
    return dict(sorted(names.items()))


def _ids_by_name(categories: Iterable[tuple[int, str]], path: Path) -> dict[str, int]:
    """The first id of each name; logs other ids of the name."""
    ids: dict[str, int] = {}
    for category_id, name in categories:
        if name in ids:
            logger.warning(
                "%s: the categories %d and %d have the same name, %s, and count as one class",
                path, ids[name], category_id, name,
            )  # fmt: skip
        ids.setdefault(name, category_id)
    return ids


def _check_form(objects: ObjectRows, path: Path) -> None:
    """Rejects boxes given as two corners; the stated areas show it.

    Raises:
      UserError: most of the first boxes are given as corners.
    """
    fits: list[bool] = []
    boxes = objects.columns.column("box").reshape(-1, 4)[:FORM_TRIED].tolist()
    areas = objects.columns.column("area")[:FORM_TRIED].tolist()
    for row, ((x, y, right, bottom), area) in enumerate(zip(boxes, areas, strict=True)):
        if row in objects.odd or not area > 0:
            continue
        width, height = right - x, bottom - y
        # The area of an outline is smaller than its box, and hardly ever equals the other form.
        as_corners = (width - x) * (height - y) if width > x and height > y else 0.0
        other, own = abs(as_corners - area), abs(width * height - area)
        fits.append(other <= 1e-3 * area and own > 1e-2 * area)
    if fits and sum(fits) > 0.9 * len(fits):
        raise UserError(
            f"{path}: by the areas, each bbox is two corners (x, y, x, y), but COCO needs a corner "
            "and a size (x, y, width, height): convert the boxes"
        )
