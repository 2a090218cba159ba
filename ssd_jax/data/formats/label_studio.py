"""Reads Label Studio's exports JSON and JSON-MIN: all tasks of a project in one file."""

import logging
import re
import urllib.parse
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

from ssd_jax.data.annotations import Annotations
from ssd_jax.data.discovery import Splits
from ssd_jax.data.file_tree import IMAGE_SUFFIXES, FileTree
from ssd_jax.data.formats.arguments import file_and_folder
from ssd_jax.data.formats.exports import image_of_path, names_split, splits_of_exports
from ssd_jax.data.formats.label_studio_regions import SHAPES, WITHOUT_BOX, read_regions
from ssd_jax.data.formats.values import image_id_of, number, text
from ssd_jax.data.problems import Problem, Problems
from ssd_jax.data.records import Annotation, annotation
from ssd_jax.errors import UserError, counted, first_names, shown
from ssd_jax.storage.files import read_beginning, read_json

logger = logging.getLogger(__name__)

FIRST_BYTES = 64  # a list begins within these bytes
HEAD_BYTES = 2**18  # bytes that are read to recognize a file of Label Studio
UPLOADED = re.compile(r"^[0-9a-f]{8}-")  # Label Studio's prefix of names of uploaded files


class Task(NamedTuple):
    """One image of a project.

    Attributes:
      image: its path or URL, unchanged.
      regions: the regions of the annotation that is used, unchanged; None without an annotation.
      num_annotations: the number of its annotations.
    """

    image: str
    regions: list | None
    num_annotations: int


def open_label_studio(annotations: str, image_dir: str, problems: Problems) -> Annotations:
    """Reads the tasks of an export, in its order.

    Tasks without an annotation are left out; annotated tasks without a region have no objects. Of
    several annotations of a task, the ground truth is used, otherwise the newest one. Rotated
    shapes and polygons are replaced by their bounding boxes.

    Args:
      annotations: the JSON file.
      image_dir: the folder of the images.
      problems: handles damaged images and annotations.

    Raises:
      UserError: a file or folder is missing or cannot be understood, or `problems` stops; the
        message names it.
    """
    source, path, folder = file_and_folder("label_studio", annotations, image_dir)
    content = read_json(path)
    if not isinstance(content, list) or not content:
        raise UserError(f"{path} is not an export of Label Studio, which is a list of tasks")
    return Annotations(_read(content, path, FileTree(folder), problems, source), source)


def find_label_studio(tree: FileTree) -> Splits:
    """Finds the exports below a folder.

    Raises:
      UserError: two exports name the same image.
    """
    files = [file for file in tree.with_suffix(".json") if _is_label_studio(tree.path(file))]
    return splits_of_exports(tree, "label_studio", files, _images_of)


def _is_label_studio(file: Path) -> bool:
    if not re.match(r"\s*\[", read_beginning(file, FIRST_BYTES)):
        return False
    beginning = read_beginning(file, HEAD_BYTES)
    fields = "|".join((*SHAPES, *WITHOUT_BOX, "original_width"))
    return bool(re.match(r"\s*\[\s*\{", beginning) and re.search(rf'"({fields})"\s*:', beginning))


def _images_of(file: Path) -> set[str]:
    """The images that an export names; none if it cannot be read: opening it reports the error."""
    try:
        content = read_json(file)
    except UserError:
        return set()
    tasks = (_task(entry) for entry in (content if isinstance(content, list) else ()))
    return {task.image for task in tasks if isinstance(task, Task)}


def _read(
    content: list, path: Path, tree: FileTree, problems: Problems, source: str
) -> Iterator[Annotation]:
    """Yields the annotation of every annotated task; `problems` collects damaged ones."""
    uploaded = _by_uploaded_name(tree)
    seen: set[str] = set()
    not_annotated, repeated, without_box = [], [], 0
    for place, task in _tasks(content):
        found: list[Problem] = []
        if isinstance(task, Problem):
            problems.num_images += 1
            problems.add(path, place, [Problem(task.kind, f"{place}: {task.message}")])
            continue
        if task.regions is None:
            not_annotated.append(task.image)
            continue
        problems.num_images += 1
        if task.num_annotations > 1:
            repeated.append(task.image)
        image = _find_image(task.image, tree, uploaded)
        if isinstance(image, Problem):
            found.append(image)
        objects, size, others = read_regions(task.regions, found)
        without_box += others
        image_id = image_id_of(image, tree.root) if isinstance(image, Path) else place
        if image_id in seen:
            found.append(Problem("listed twice", f"{shown(task.image)} is annotated twice"))
        seen.add(image_id)
        if found or isinstance(image, Problem):
            named = [Problem(kind, f"{place}: {message}") for kind, message in found]
            problems.add(path, image_id, named)
            continue
        yield annotation(image_id, image, path, objects, size, unit="fractions")
    _log(source, "left out {} without an annotation: {}", not_annotated)
    message = "{} with several annotations: the ground truth or the newest is used: {}"
    _log(source, message, repeated)
    if without_box:
        count = counted(without_box, "region")
        logger.warning("%s: left out %s without a box (masks and points)", source, count)


def _log(source: str, message: str, images: list[str]) -> None:
    if images:
        formatted = message.format(counted(len(images), "task"), first_names(images))
        logger.warning("%s: %s", source, formatted)


def _tasks(content: list) -> Iterator[tuple[str, Task | Problem]]:
    """Yields the tasks with their places; of several rows of a task in JSON-MIN, the newest."""
    rows: dict[object, list[tuple[str, Task | Problem, str]]] = {}
    for number_of_task, entry in enumerate(content):
        place = f"[{number_of_task}]"
        task = _task(entry)
        is_row = isinstance(entry, dict) and "data" not in entry and text(entry.get("id"))
        key = (text(entry.get("id")), task.image) if is_row and isinstance(task, Task) else place
        written = text(entry.get("updated_at")) if isinstance(entry, dict) else ""
        rows.setdefault(key, []).append((place, task, written))
    for own in rows.values():
        place, task, _ = max(own, key=lambda row: row[2])
        if isinstance(task, Task) and len(own) > 1:
            task = task._replace(num_annotations=len(own))
        yield place, task


def _task(entry: object) -> Task | Problem:
    """The task of an entry of JSON, or of a row of JSON-MIN."""
    if not isinstance(entry, dict):
        return Problem("annotation form", f"is {shown(entry)}, which is not a task")
    data = entry.get("data", entry)
    image = _image_field(data) if isinstance(data, dict) else ""
    if not image:
        return Problem("file name", f"names no image: {shown(data)}")
    if "data" not in entry:
        if any(key in entry for key in ("annotations", "completions", "predictions")):
            return Problem("annotation form", f"has no data: {shown(entry)}")
        lists = [value for value in entry.values() if isinstance(value, list)]
        regions = [region for own in lists for region in own]
        is_annotated = bool(regions) or "annotation_id" in entry or "annotator" in entry
        return Task(image, regions if is_annotated else None, int(is_annotated))
    made = entry.get("annotations", entry.get("completions", []))
    if not isinstance(made, list) or not all(isinstance(each, dict) for each in made):
        return Problem("annotation form", f"annotations is {shown(made)}")
    valid = [each for each in made if not (each.get("was_cancelled") or each.get("skipped"))]
    if not valid:
        return Task(image, None, 0)
    chosen = max(
        valid,
        key=lambda each: (
            each.get("ground_truth") is True,
            text(each.get("updated_at")) or text(each.get("created_at")),
            number(each.get("id")) or 0,
        ),
    )
    regions = chosen.get("result")
    if not isinstance(regions, list):
        return Problem("annotation form", f"the result of an annotation is {shown(regions)}")
    return Task(image, regions, len(valid))


def _image_field(data: Mapping[str, object]) -> str:
    """The path or URL of a task's image: the field `image`, or the first with an image suffix."""
    texts = {key: value for key, value in data.items() if isinstance(value, str) and text(value)}
    if "image" in texts:
        return texts["image"]
    named = (value for value in texts.values() if _suffix(_path_of(value)) in IMAGE_SUFFIXES)
    return next(named, "")


def _suffix(path: str) -> str:
    return Path(path).suffix.lower()


def _path_of(reference: str) -> str:
    """The path in a reference to an image.

    `/data/local-files/?d=FOLDER/a.jpg`, `/data/upload/1/ab12cd34-a.jpg`, and URLs.
    """
    if re.match(r"[A-Za-z]:[\\/]", reference) or "\\" in reference:
        return reference[2:] if reference[1:2] == ":" else reference
    try:
        parts = urllib.parse.urlsplit(reference)
    except ValueError:
        return reference
    if "local-files" in parts.path and "?d=" in reference:
        return reference.partition("?d=")[2]
    # A file name may contain "?" or "#".
    is_url = bool(parts.scheme and parts.netloc)
    return urllib.parse.unquote(parts.path) if is_url else reference


def _find_image(
    reference: str, tree: FileTree, uploaded: Mapping[str, list[str]]
) -> Path | Problem:
    """The image of a task; its name may have the prefix of uploaded files."""
    path = _path_of(reference)
    for written in dict.fromkeys((path, urllib.parse.unquote(path))):
        found = image_of_path(tree, written)
        if isinstance(found, Path) or found.kind == "ambiguous":
            return found
    *folders, name = re.split(r"[\\/]", path)
    if names_split(folders):
        return found
    names = uploaded.get(_uploaded_name(name), [])
    if len(names) > 1:
        listed = first_names(names, 3)
        return Problem("ambiguous", f"{shown(reference)} may be any of {listed} in {tree.root}")
    return tree.path(names[0]) if names else found


def _by_uploaded_name(tree: FileTree) -> dict[str, list[str]]:
    """The images by the names that Label Studio gives them on upload."""
    names: dict[str, list[str]] = {}
    for image in tree.images:
        names.setdefault(_uploaded_name(image.rpartition("/")[2]), []).append(image)
    return names


def _uploaded_name(name: str) -> str:
    """A name without the prefix, and without the signs that Label Studio removes."""
    plain = UPLOADED.sub("", urllib.parse.unquote(name))
    return re.sub(r"[^\w.-]", "", plain.strip().replace(" ", "_"))
