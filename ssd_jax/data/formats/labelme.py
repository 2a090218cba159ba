"""Reads annotations of LabelMe, and of tools that write its format: one JSON file per image."""

import json
import logging
import math
import os
import re
from collections.abc import Iterator
from pathlib import Path

from ssd_jax.data import spec
from ssd_jax.data.annotations import Annotations
from ssd_jax.data.discovery import Splits
from ssd_jax.data.file_tree import FileTree
from ssd_jax.data.formats.exports import image_folder, image_of_path
from ssd_jax.data.formats.values import extremes, image_id_of, number, numbers, text
from ssd_jax.data.image_folders import split_of
from ssd_jax.data.problems import Problem, Problems
from ssd_jax.data.records import Annotation, Object, annotation
from ssd_jax.errors import UserError, counted, first_names, shown
from ssd_jax.storage.files import local_path, read_beginning, read_text

logger = logging.getLogger(__name__)

# Larger files are not read. The limit is high because a file may contain the image.
MAX_BYTES = 256 * 2**20
# The number of bytes, and of files, that are read to recognize LabelMe's files.
HEAD_BYTES, SAMPLE = 2**16, 10

# Shapes with the bounding box of their points; a mask's box includes its last pixel.
OUTLINES = (
    *("rectangle", "polygon", "line", "linestrip", "mask", "rotation", "quadrilateral"),
    "oriented_rectangle",
)
POINTS = ("point", "points")


def open_labelme(annotations: str, image_dir: str, problems: Problems) -> Annotations:
    """Reads the annotation files below a folder, in alphabetical order.

    Images without such a file are left out; images whose file has no shapes have no objects.

    Args:
      annotations: the folder of the JSON files, or one of them.
      image_dir: the folder of the images, which may be the same.
      problems: handles damaged images and annotations.

    Raises:
      UserError: a folder is missing or has no such files, or `problems` stops; the message names
        it.
    """
    source = spec.compose("labelme", annotations, image_dir)
    place, folder = local_path(annotations), local_path(image_dir)
    if not place.exists():
        raise UserError(f"{source}: {place} does not exist")
    if not folder.is_dir():
        raise UserError(f"{source}: the folder {folder} does not exist")
    if place.is_dir():
        tree = FileTree(place)
        files = [tree.path(file) for file in tree.with_suffix(".json")]
    else:
        files = [place]
    if not files:
        raise UserError(f"{source}: {place} has no .json files")
    return Annotations(_read(files, FileTree(folder), problems, source), source)


def find_labelme(tree: FileTree) -> Splits:
    """Finds the folders with annotation files of LabelMe below a folder, by split."""
    folders: dict[str, list[str]] = {}
    for file in tree.with_suffix(".json"):
        folders.setdefault(file.rpartition("/")[0], []).append(file)
    by_split: dict[str, list[str]] = {}
    for folder, files in folders.items():
        sample = [_is_labelme(tree.path(file)) for file in files[:SAMPLE]]
        if 2 * sum(sample) >= len(sample):
            by_split.setdefault(split_of(f"{folder}/"), []).append(folder)
    others = set(tree.files) - set(tree.images)
    # If the user names one file as the source, its tree has no other annotation file.
    only = tree.path(others.pop()) if len(others) == 1 else None
    splits: Splits = {}
    for split, own in by_split.items():
        tops = [folder for folder in own if not any(_is_below(folder, other) for other in own)]
        splits[split] = [
            spec.compose("labelme", only or tree.path(folder), image_folder(tree, folder, split))
            for folder in tops
        ]
    return splits


def _is_below(path: str, folder: str) -> bool:
    return path != folder and (not folder or path.startswith(f"{folder}/"))


def _is_labelme(file: Path) -> bool:
    """Whether a file begins like a file of LabelMe; `shapes` are before the image in the file."""
    beginning = read_beginning(file, HEAD_BYTES)
    return bool(
        re.match(r"\s*\{", beginning)
        and re.search(r'"shapes"\s*:\s*\[', beginning)
        and re.search(r'"(imagePath|shape_type|imageData|lineColor)"\s*:', beginning)
    )


def _read(
    files: list[Path], tree: FileTree, problems: Problems, source: str
) -> Iterator[Annotation]:
    """Yields the annotation of every file; `problems` collects damaged ones."""
    seen: set[str] = set()
    used: set[Path | None] = set()
    images = frozenset(tree.images)
    num_points = 0
    for file in files:
        problems.num_images += 1
        found: list[Problem] = []
        content = _content(file, found)
        image = None if content is None else _image(content, file, tree, images, found)
        objects: list[Object] = []
        for shape in content["shapes"] if content else ():
            if isinstance(shape, dict) and shape.get("shape_type") in POINTS:
                num_points += 1
                continue
            read = _object(shape)
            if isinstance(read, Problem):
                found.append(read)
            else:
                objects.append(read)
        image_id = image_id_of(image, tree.root) if image else file.stem
        if image and image_id in seen:
            found.append(Problem("listed twice", f"{image} has another annotation file"))
        seen.add(image_id)
        used.add(image)
        if found or image is None or content is None:
            problems.add(file, image_id, found)
            continue
        height, width = number(content.get("imageHeight")), number(content.get("imageWidth"))
        size = (height, width) if height and width else None
        yield annotation(image_id, image, file, objects, size)
    _log_left_out(tree, used, num_points, source)


def _content(file: Path, found: list[Problem]) -> dict | None:
    """The content of a file, with a list of `shapes`; None, and a problem, if it is invalid."""
    try:
        content = json.loads(read_text(file, MAX_BYTES))
    except UserError as error:
        found.append(Problem("annotation unreadable", str(error).removeprefix(f"{file} ")))
        return None
    except (ValueError, RecursionError) as error:
        found.append(Problem("annotation unreadable", f"is not JSON, or is damaged: {error}"))
        return None
    if not isinstance(content, dict) or not isinstance(content.get("shapes"), list):
        message = "is not an annotation of LabelMe: it has no list 'shapes'"
        found.append(Problem("annotation unreadable", message))
        return None
    return content


def _image(
    content: dict, file: Path, tree: FileTree, images: frozenset[str], found: list[Problem]
) -> Path | None:
    """The image of a file: the image of `imagePath`, or else an image with the name of the file.

    Args:
      content: the content of the file.
      file: the path of the file.
      tree: the folder of the images.
      images: `tree.images`.
      found: collects problems.
    """
    name = text(content.get("imagePath")).replace("\\", "/")
    root = os.path.abspath(tree.root)
    own = os.path.relpath(os.path.abspath(file.parent), root).replace("\\", "/")
    # `imagePath` starts from the folder of the file.
    relative = os.path.normpath(os.path.join("" if own == "." else own, name)).replace("\\", "/")
    if relative in images:
        named: Path | Problem = tree.path(relative)
    else:
        # A path of another machine, or from another folder.
        named = image_of_path(tree, name)
    stem = os.path.normpath(os.path.join(own, file.stem)).replace("\\", "/")
    same_name = tree.image_of_stem(stem, name.rpartition("/")[2])
    if isinstance(named, Path) and isinstance(same_name, Path) and named != same_name:
        message = f"imagePath is {shown(name)}, but {same_name} has the name of the file"
        found.append(Problem("ambiguous", message))
        return None
    for image in (named, same_name):
        if isinstance(image, Path):
            return image
    problem = named if isinstance(named, Problem) else Problem("image missing", "has no image")
    message = f"imagePath: {problem.message}"
    if content.get("imageData"):
        message += "; the image inside the file (imageData) is not read: export it"
    found.append(Problem(problem.kind, message))
    return None


def _object(shape: object) -> Object | Problem:
    """Converts a shape to an object."""
    if not isinstance(shape, dict):
        return Problem("annotation form", f"a shape is {shown(shape)}")
    name = text(shape.get("label"))
    if not name:
        return Problem("class missing", f"a shape has the label {shown(shape.get('label'))}")
    kind, points = shape.get("shape_type") or "polygon", shape.get("points")
    box = _box(kind, points)
    if box is None:
        if kind not in (*OUTLINES, "circle"):
            return Problem("annotation form", f"the shape_type {shown(kind)} is not known")
        message = f"the points of a {kind} are {shown(points)}, which are invalid"
        return Problem("box", message)
    flags = shape.get("flags")
    hard = shape.get("difficult") or (isinstance(flags, dict) and flags.get("difficult"))
    return Object(name, box, difficult=hard is True or text(hard).lower() in ("true", "1"))


def _box(kind: object, points: object) -> tuple[float, float, float, float] | None:
    """The bounding box of a shape; None if it has none."""
    corners = extremes(points)
    if corners is None or not isinstance(points, list) or len(points) < 2:
        return None
    if kind == "circle":
        if len(points) != 2:
            return None
        (x, y), rim = ((numbers(point) or [0, 0])[:2] for point in points)
        radius = math.dist((x, y), rim)
        return x - radius, y - radius, x + radius, y + radius
    if kind not in OUTLINES:
        return None
    x_min, y_min, x_max, y_max = corners
    return (x_min, y_min, x_max + 1, y_max + 1) if kind == "mask" else corners


def _log_left_out(tree: FileTree, used: set[Path | None], num_points: int, source: str) -> None:
    """Logs images without an annotation file, and the number of points that were left out."""
    without = [image for image in tree.images if tree.path(image) not in used]
    if without:
        count, names = counted(len(without), "image"), first_names(without)
        logger.warning("%s: left out %s without an annotation file: %s", source, count, names)
    if num_points:
        logger.warning("%s: left out %s without a box", source, counted(num_points, "point"))
