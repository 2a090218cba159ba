"""Reads annotations in COCO's JSON format."""

import json
import math
from collections.abc import Iterator
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any, TypeGuard

from ssd_jax.data.annotations import Annotations
from ssd_jax.data.discovery import Splits
from ssd_jax.data.file_tree import FileTree
from ssd_jax.data.problems import MAX_PIXEL, Problem, Problems, file_exists
from ssd_jax.data.records import Annotation, Object, annotation
from ssd_jax.errors import UserError, shown
from ssd_jax.storage.files import local_path

FORM = (
    "COCO's format has 'images' with id, file_name, width and height, 'annotations' with image_id, "
    "category_id and bbox, and 'categories' with id and name"
)


def open_coco_json(annotations: str, image_dir: str, problems: Problems) -> Annotations:
    """Reads one annotation file, in its order.

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
    spec = f"coco_json:{annotations}:{image_dir}"
    path, folder = local_path(annotations), local_path(image_dir)
    if not file_exists(path):
        raise UserError(f"{spec}: {path} does not exist")
    if not folder.is_dir():
        raise UserError(f"{spec}: the folder {folder} does not exist")
    content = _parse(path)
    categories = _categories(content["categories"], path)
    if not content["images"]:
        raise UserError(f"{path} lists no images")
    ids = {name: category_id for category_id, name in categories.items()}
    return Annotations(_read(content, categories, path, folder, problems), spec, ids)


def find_coco_json(tree: FileTree) -> Splits:
    """The COCO files below a folder."""
    del tree
    return {}


def _read(
    content: dict[str, list],
    categories: dict[int, str],
    path: Path,
    folder: Path,
    problems: Problems,
) -> Iterator[Annotation]:
    """The annotation of every image; `problems` collects damaged ones."""
    objects = _objects_by_image(content, path, problems)
    seen = set()
    for number, image in enumerate(content["images"]):
        problems.num_images += 1
        image_id = image.get("id") if isinstance(image, dict) else None
        if not _is_id(image_id) or str(image_id) in seen:
            place = f"images[{number}]"
            if _is_id(image_id):
                problem = Problem("listed twice", f"{place} has the id {shown(image_id)} again")
            else:
                problem = Problem("annotation form", f"{place} has no id: {shown(image)}")
            problems.add(path, place, [problem])
            continue
        seen.add(str(image_id))
        found = []
        read = _read_image(image, objects[image_id], categories, path, folder, found)
        if found:
            problems.add(path, str(image_id), found)
        elif read:
            yield read


def _parse(path: Path) -> dict[str, list]:
    """The three lists of a file."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    # ValueError: of bad JSON, bad UTF-8, and numbers of thousands of digits.
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"{path} is not JSON: {error}") from error
    for name in ("images", "annotations", "categories"):
        if not isinstance(content, dict) or not isinstance(content.get(name), list):
            raise UserError(f"{path} is not in COCO's format, for it has no list {name!r}: {FORM}")
    return content


def _categories(listed: list, path: Path) -> dict[int, str]:
    """Names by id, in the order of the ids."""
    for number, category in enumerate(listed):
        is_dict = isinstance(category, dict)
        if not is_dict or not _is_integer(category.get("id")) or not _is_text(category.get("name")):
            raise UserError(
                f"{path} is not in COCO's format: categories[{number}] is {shown(category)}, but "
                "needs an id, which is a whole number, and a name"
            )
    return {
        category["id"]: category["name"]
        for category in sorted(listed, key=lambda category: category["id"])
    }


def _objects_by_image(content: dict[str, list], path: Path, problems: Problems) -> dict[Any, list]:
    """The entries of `annotations` for the id of every image."""
    ids = [image.get("id") for image in content["images"] if isinstance(image, dict)]
    objects = {image_id: [] for image_id in ids if _is_id(image_id)}
    for number, entry in enumerate(content["annotations"]):
        image_id = entry.get("image_id") if isinstance(entry, dict) else None
        if _is_id(image_id) and image_id in objects:
            objects[image_id].append(entry)
        else:
            place = f"annotations[{number}]"
            if isinstance(entry, dict) and "image_id" in entry:
                message = f"{place} names the unknown image {shown(image_id)}"
            else:
                message = f"{place} has no image_id: {shown(entry)}"
            problems.add(path, place, [Problem("annotation form", message)])
    return objects


def _read_image(
    image: dict,
    entries: list[dict],
    categories: dict[int, str],
    path: Path,
    folder: Path,
    found: list[Problem],
) -> Annotation | None:
    """The annotation of an image; adds to `found` what is wrong with it."""
    place = f"the image {shown(image['id'])}"
    name = image.get("file_name")
    if not isinstance(name, str) or not _is_text(name):
        found.append(Problem("file name", f"{place} has no file_name"))
    elif _leaves_folder(name):
        found.append(Problem("file name", f"{place}: {shown(name)} is outside {folder}"))
    elif not file_exists(folder / name):
        found.append(Problem("image missing", f"{place}: {shown(name)} is not in {folder}"))

    height, width = image.get("height"), image.get("width")
    if not (_is_side(height) and _is_side(width)):
        message = f"{place} has the width and height {shown((width, height))}, which are not pixels"
        found.append(Problem("size", message))
    for entry in entries:
        found += _problems_of_object(entry, place, categories)
    # Repeated for type checkers.
    if found or not (isinstance(name, str) and _is_side(height) and _is_side(width)):
        return None
    objects = []
    for entry in entries:
        x, y, box_width, box_height = entry["bbox"]
        area = entry.get("area")
        objects.append(
            Object(
                categories[entry["category_id"]],
                (x, y, x + box_width, y + box_height),
                crowd=bool(entry.get("iscrowd")),
                area=math.nan if area is None else area,
            )
        )
    return annotation(str(image["id"]), folder / name, path, objects, (height, width))


def _problems_of_object(entry: dict, place: str, categories: dict[int, str]) -> list[Problem]:
    found = []
    category_id, box = entry.get("category_id"), entry.get("bbox")
    if not _is_integer(category_id) or category_id not in categories:
        message = f"{place}: an annotation names the unknown category {shown(category_id)}"
        found.append(Problem("class unknown", message))
    if not isinstance(box, list) or len(box) != 4 or not all(map(_is_number, box)):
        message = f"{place}: a bbox is {shown(box)}, but must be x, y, width and height"
        found.append(Problem("box", f"{message}, four numbers of at most {MAX_PIXEL:,.0f}"))
    for name in ("area", "iscrowd"):
        value = entry.get(name)
        if not (value is None or isinstance(value, bool) or _is_number(value, MAX_PIXEL**2)):
            message = f"{place}: {name} is {shown(value)}, which is not a number"
            found.append(Problem("annotation form", message))
    return found


def _is_integer(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_number(value: Any, limit: float = MAX_PIXEL) -> bool:
    return (_is_integer(value) or isinstance(value, float)) and abs(value) <= limit  # nor NaN


def _is_side(value: Any) -> TypeGuard[float]:
    return _is_number(value) and value >= 1


def _is_text(value: Any) -> bool:
    """Whether it is a string that can be written to a file and be part of a path."""
    if not isinstance(value, str) or not value.strip() or "\0" in value:
        return False
    try:
        value.encode()
    except UnicodeEncodeError:  # half a surrogate pair
        return False
    return True


def _is_id(value: Any) -> bool:
    """Whether it can be the id of an image: a number in COCO, a name in other sets."""
    return _is_integer(value) or _is_text(value)


def _leaves_folder(name: str) -> bool:
    """Whether a name leads out of the folder it is in, on whatever system."""
    return any(
        path.is_absolute() or path.drive or ".." in path.parts
        for path in (PurePosixPath(name), PureWindowsPath(name))
    )
