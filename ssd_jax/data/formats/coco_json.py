"""Reads annotations in COCO's JSON format, as COCO and the exporters of other tools write it."""

import json
import logging
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from ssd_jax.data.annotations import Annotations
from ssd_jax.data.file_tree import IMAGE_SUFFIXES, FileTree
from ssd_jax.data.formats.arguments import file_and_folder
from ssd_jax.data.formats.coco_values import (
    area_of,
    box_of,
    box_of_outline,
    flag,
    identity,
    is_text,
)
from ssd_jax.data.formats.values import number
from ssd_jax.data.problems import MAX_PIXEL, Problem, Problems
from ssd_jax.data.records import Annotation, Object, annotation
from ssd_jax.errors import UserError, counted, first_names, shown
from ssd_jax.storage.files import read_text

logger = logging.getLogger(__name__)

FORM_TRIED = 1000  # boxes that tell which form they have
FORM = (
    "COCO's format has 'images' with id, file_name, width and height, 'annotations' with image_id, "
    "category_id and bbox, and 'categories' with id and name"
)

Id = int | str


def open_coco_json(annotations: str, image_dir: str, problems: Problems) -> Annotations:
    """Reads one annotation file, in its order.

    Numbers may be text. Sizes that are not there are those of the images, a box that is not there
    is that of the outline, and a file without `annotations` has images without objects.

    Args:
      annotations: a file like `instances_val2017.json`.
      image_dir: the folder of its images.
      problems: what becomes of images that are damaged or whose annotation is.

    Returns:
      The annotations. The ids of the categories are in the order of the ids, which need not be
      consecutive: COCO's 80 classes have ids from 1 to 90.

    Raises:
      UserError: the file or the folder is missing or cannot be understood, or `problems` stops; the
        message names the file.
    """
    spec, path, folder = file_and_folder("coco_json", annotations, image_dir)
    content = _parse(path)
    names = _category_names(content["categories"], path)
    if not content["images"]:
        raise UserError(f"{path} lists no images")
    ids: dict[str, int] = {}
    for category_id, name in names.items():
        if name in ids:
            logger.warning(
                "%s: the categories %d and %d have one name, %s, and are taken as one class",
                path, ids[name], category_id, name,
            )  # fmt: skip
        ids.setdefault(name, category_id)
    _check_form(content["annotations"], path)
    file = _File(path, FileTree(folder), names)
    return Annotations(_read(content, file, problems), spec, ids)


def _check_form(entries: list, path: Path) -> None:
    """Refuses boxes that are two corners, as the areas beside them tell.

    Raises:
      UserError: most of the first boxes are such.
    """
    fits: list[bool] = []
    for entry in entries[:FORM_TRIED]:
        box = box_of(entry.get("bbox")) if isinstance(entry, dict) else None
        area = area_of(entry.get("area")) if isinstance(entry, dict) else None
        if box is None or not area or not area > 0:
            continue
        x, y, right, bottom = box
        width, height = right - x, bottom - y
        # An outline has less area than its box; by chance hardly that of the other form.
        as_corners = (width - x) * (height - y) if width > x and height > y else 0.0
        other, own = abs(as_corners - area), abs(width * height - area)
        fits.append(other <= 1e-3 * area and own > 1e-2 * area)
    if fits and sum(fits) > 0.9 * len(fits):
        raise UserError(
            f"{path}: the areas say that each bbox is two corners (x, y, x, y), but COCO's is a "
            "corner and a size (x, y, width, height): convert the boxes"
        )


class _File(NamedTuple):
    """An annotation file.

    Attributes:
      path: the file.
      tree: the folder of its images.
      names: of the categories, by their ids.
    """

    path: Path
    tree: FileTree
    names: dict[int, str]


def _parse(path: Path) -> dict[str, list]:
    """The three lists of a file."""
    text = read_text(path)
    try:
        content = json.loads(text)
    # ValueError: of bad JSON, and of numbers of thousands of digits.
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path} is not JSON: {error}") from error
    if isinstance(content, dict) and content.get("annotations") is None:
        content["annotations"] = []
    for name in ("images", "annotations", "categories"):
        if not isinstance(content, dict) or not isinstance(content.get(name), list):
            raise UserError(f"{path} is not in COCO's format, for it has no list {name!r}: {FORM}")
    return content


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
                f"{path}: the categories {shown(names[category_id])} and {shown(name)} have one "
                f"id, {category_id}: give each its own, and its annotations that id"
            )
    return dict(sorted(names.items()))


def _read(content: dict[str, list], file: _File, problems: Problems) -> Iterator[Annotation]:
    """The annotation of every image; `problems` collects damaged ones."""
    entries = _entries_by_image(content, file.path, problems)
    seen: set[Id] = set()
    known: dict[str, Id] = {}
    for index, image in enumerate(content["images"]):
        problems.num_images += 1
        image_id = identity(image.get("id")) if isinstance(image, dict) else None
        if image_id is None or image_id in seen:
            place = f"images[{index}]"
            if image_id is None:
                problem = Problem("annotation form", f"{place} has no id: {shown(image)}")
            else:
                problem = Problem("listed twice", f"{place} has the id {shown(image['id'])} again")
            problems.add(file.path, place, [problem])
            continue
        seen.add(image_id)
        found: list[Problem] = []
        read = _read_image(image, image_id, entries[image_id], file, found)
        if read and known.setdefault(read.path, image_id) != image_id:
            message = f"the images {shown(known[read.path])} and {shown(image_id)} are both "
            found.append(Problem("listed twice", message + shown(image.get("file_name"))))
        if found:
            problems.add(file.path, str(image_id), found)
        elif read:
            yield read
    without = [image for image in file.tree.images if str(file.tree.path(image)) not in known]
    if without and not problems.found:
        count = counted(len(without), "image")
        logger.info(
            "%s: left out %s that it does not list: %s", file.path, count, first_names(without)
        )


def _entries_by_image(
    content: dict[str, list], path: Path, problems: Problems
) -> dict[Id, list[dict]]:
    """The entries of `annotations` for the id of every image."""
    ids = (identity(image.get("id")) for image in content["images"] if isinstance(image, dict))
    entries: dict[Id, list[dict]] = {image_id: [] for image_id in ids if image_id is not None}
    for index, entry in enumerate(content["annotations"]):
        image_id = identity(entry.get("image_id")) if isinstance(entry, dict) else None
        if image_id is not None and image_id in entries:
            entries[image_id].append(entry)
            continue
        place = f"annotations[{index}]"
        if isinstance(entry, dict) and "image_id" in entry:
            message = f"{place} names the unknown image {shown(entry['image_id'])}"
        else:
            message = f"{place} has no image_id: {shown(entry)}"
        problems.add(path, place, [Problem("annotation form", message)])
    return entries


def _read_image(
    image: dict, image_id: Id, entries: Sequence[dict], file: _File, found: list[Problem]
) -> Annotation | None:
    """The annotation of an image; adds to `found` what is wrong with it."""
    place = f"the image {shown(image_id)}"
    image_path = _image_path(image, file.tree, place, found)
    size = _size(image, place, found)
    objects = []
    for entry in entries:
        read = _read_object(entry, place, file.names, found)
        if read:
            objects.append(read)
    if found or image_path is None:
        return None
    return annotation(str(image_id), image_path, file.path, objects, size)


def _image_path(image: dict, tree: FileTree, place: str, found: list[Problem]) -> Path | None:
    name = next(filter(is_text, map(image.get, ("file_name", "path", "coco_url"))), None)
    if name is None:
        found.append(Problem("file name", f"{place} has no file_name"))
        return None
    path = tree.image(name)
    if isinstance(path, Problem):
        without_suffix = Path(name).suffix.lower() not in IMAGE_SUFFIXES
        by_stem = tree.image_of_stem(name) if without_suffix else path
        if isinstance(by_stem, Problem):
            found.append(Problem(path.kind, f"{place}: {path.message}"))
            return None
        return by_stem
    return path


def _size(image: dict, place: str, found: list[Problem]) -> tuple[float, float] | None:
    """(height, width), or None where they are not there."""
    stated = image.get("height"), image.get("width")
    if any(value is None or value == "" for value in stated):
        return None
    height, width = map(number, stated)
    if height is None or width is None or height < 0 or width < 0:
        message = f"{place} has the width and height {shown(stated[::-1])}, which are not pixels"
        found.append(Problem("size", message))
        return None
    return height, width


def _read_object(
    entry: dict, place: str, names: dict[int, str], found: list[Problem]
) -> Object | None:
    category_id = identity(entry.get("category_id"))
    name = names.get(category_id) if isinstance(category_id, int) else None
    if name is None:
        stated = shown(entry.get("category_id"))
        message = f"{place}: an annotation names the unknown category {stated}"
        found.append(Problem("class unknown", message))
    box = box_of(entry.get("bbox"))
    if box is None and not entry.get("bbox"):
        box = box_of_outline(entry.get("segmentation"))
    if box is None:
        message = f"{place}: a bbox is {shown(entry.get('bbox'))}, but must be x, y, width and "
        found.append(Problem("box", f"{message}height, four numbers of at most {MAX_PIXEL:,.0f}"))
    area, crowd = area_of(entry.get("area")), flag(entry.get("iscrowd"))
    ignored = flag(entry.get("ignore"))
    for key, value in (("area", area), ("iscrowd", crowd), ("ignore", ignored)):
        if value is None:
            message = f"{place}: {key} is {shown(entry.get(key))}, which is not a number"
            found.append(Problem("annotation form", message))
    if name is None or box is None or area is None or crowd is None or ignored is None:
        return None
    return Object(name, box, difficult=ignored, crowd=crowd, area=area)
