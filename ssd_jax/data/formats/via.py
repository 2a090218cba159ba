"""Reads projects and exports of the VGG Image Annotator (VIA): JSON of versions 1 to 3, and CSV."""

import collections
import logging
import math
import re
import urllib.parse
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from ssd_jax.data.annotations import Annotations
from ssd_jax.data.discovery import Splits
from ssd_jax.data.file_tree import FileTree
from ssd_jax.data.formats.arguments import file_and_folder
from ssd_jax.data.formats.exports import image_of_path, splits_of_exports
from ssd_jax.data.formats.values import extremes, image_id_of, number, text
from ssd_jax.data.formats.via_files import Image, Region, read_images
from ssd_jax.data.problems import Problem, Problems
from ssd_jax.data.records import Annotation, Object, annotation
from ssd_jax.errors import UserError, counted, first_names, shown
from ssd_jax.storage.files import read_beginning

logger = logging.getLogger(__name__)

HEAD_BYTES = 2**16  # bytes that are read to recognize a file of VIA
HEADER = "file_attributes,region_count,region_id,region_shape_attributes"
# Usual names of the attribute with the class, in order of preference.
CLASS_WORDS = ("class", "label", "category", "type", "name", "object")
# The class if no region has an attribute.
ONLY_CLASS = "object"


def open_via(annotations: str, image_dir: str, problems: Problems) -> Annotations:
    """Reads a project or an export, in its order.

    Images without regions have no objects: VIA does not record whether they were annotated. The
    class of a region is its attribute named class, label, category, type, name or object, or
    otherwise the most frequent attribute; "object" without attributes.

    Args:
      annotations: the JSON or CSV file.
      image_dir: the folder of the images.
      problems: handles damaged images and annotations.

    Raises:
      UserError: a file or folder is missing or cannot be understood, or `problems` stops; the
        message names it.
    """
    source, path, folder = file_and_folder("via", annotations, image_dir)
    images = read_images(path)
    if not images:
        raise UserError(f"{path} lists no images")
    attribute = _class_attribute(images, path, source)
    return Annotations(_read(images, attribute, path, FileTree(folder), problems, source), source)


def find_via(tree: FileTree) -> Splits:
    """Finds the projects and exports of VIA below a folder.

    Raises:
      UserError: two of them name the same image.
    """
    files = [file for file in tree.with_suffix(".json", ".csv") if _is_via(tree.path(file))]
    return splits_of_exports(tree, "via", files, _names_in)


def _is_via(file: Path) -> bool:
    beginning = read_beginning(file, HEAD_BYTES)
    if file.suffix.lower() == ".csv":
        return HEADER in beginning.partition("\n")[0].replace(" ", "")
    has = [f'"{word}"' in beginning for word in ("filename", "file_attributes", "regions")]
    is_project = re.search(r'"(_via_img_metadata|_via_settings|__VIA_PROJECT_ID__)"', beginning)
    is_third = '"data_format_version"' in beginning and '"vid_list"' in beginning
    return beginning.lstrip().startswith("{") and bool(is_project or is_third or all(has))


def _names_in(file: Path) -> set[str]:
    try:
        return {image.name for image in read_images(file)}
    except UserError:
        return set()  # opening it reports the error


def _class_attribute(images: Sequence[Image], path: Path, source: str) -> str:
    """The attribute of regions with the class; "" if no attribute has a value.

    Raises:
      UserError: several attributes are possible.
    """
    counts: collections.Counter[str] = collections.Counter()
    for image in images:
        for region in image.regions:
            counts.update({name: 1 for name, value in region.attributes.items() if _names(value)})
    if not counts:
        if any(image.regions for image in images):
            message = "%s: the regions have no attributes, so all have one class, %r"
            logger.warning(message, source, ONLY_CLASS)
        return ""
    most = counts.most_common(1)[0][1]
    usual = [name for name in sorted(counts, key=_rank) if _rank(name) < len(CLASS_WORDS)]
    frequent = [name for name in usual if 2 * counts[name] >= most]
    chosen = frequent[:1] or [name for name, count in counts.items() if count == most]
    if len(chosen) > 1:
        raise UserError(
            f"{path}: the class may be the attribute {' or '.join(chosen)} of the regions: rename "
            "the right one to 'class'"
        )
    if len(counts) > 1:
        others = ", ".join(name for name in counts if name != chosen[0])
        logger.warning("%s: the attribute %r is the class (not %s)", source, chosen[0], others)
    return chosen[0]


def _rank(name: str) -> int:
    """The index of an attribute's name in `CLASS_WORDS`, or their number."""
    words = re.findall(r"[^\W\d_]+", name.casefold())
    places = [i for i, word in enumerate(CLASS_WORDS) if {word, f"{word}s", f"{word}es"} & {*words}]
    return min(places, default=len(CLASS_WORDS))


def _names(value: object) -> list[str]:
    """The classes in the value of an attribute: a text, or ticked checkboxes."""
    if isinstance(value, Mapping):
        return [text(name) for name, ticked in value.items() if ticked is True and text(name)]
    return [text(value)] if text(value) else []


def _read(
    images: Sequence[Image],
    attribute: str,
    path: Path,
    tree: FileTree,
    problems: Problems,
    source: str,
) -> Iterator[Annotation]:
    """Yields the annotation of every image; `problems` collects damaged ones."""
    seen: set[str] = set()
    empty: list[str] = []
    num_points = 0
    for image in images:
        problems.num_images += 1
        found = list(image.problems)
        file = _find_image(image.name, tree)
        if isinstance(file, Problem):
            found.append(file)
        objects: list[Object] = []
        for region in image.regions:
            if text(region.shape.get("name")) == "point":
                num_points += 1
            else:
                objects += _objects(region, attribute, found)
        image_id = image_id_of(file, tree.root) if isinstance(file, Path) else image.place
        if image_id in seen:
            found.append(Problem("listed twice", f"{shown(image.name)} is listed twice"))
        seen.add(image_id)
        if found or isinstance(file, Problem):
            named = [Problem(kind, f"{image.place}: {message}") for kind, message in found]
            problems.add(path, image_id, named)
            continue
        if not image.regions:
            empty.append(image.name)
        yield annotation(image_id, file, path, objects)
    if empty:
        count, names = counted(len(empty), "image"), first_names(empty)
        message = "%s: %s without regions, used as images without objects: %s"
        logger.warning(message, source, count, names)
    if num_points:
        logger.warning("%s: left out %s without a box", source, counted(num_points, "point"))


def _find_image(name: str, tree: FileTree) -> Path | Problem:
    """The image with a name; the name may be a path of another machine or a URL."""
    path = name
    if re.match(r"[a-z][a-z0-9+.-]+://", name):
        path = urllib.parse.unquote(re.sub(r"^[a-z0-9+.-]+://[^/]*|[?#].*$", "", name))
    return image_of_path(tree, path)


def _objects(region: Region, attribute: str, found: list[Problem]) -> list[Object]:
    """The objects of a region, one for each class; adds its problems to `found`."""
    names = _names(region.attributes.get(attribute)) if attribute else [ONLY_CLASS]
    if not names:
        message = f"a region has no class ({attribute}): {shown(region.attributes)}"
        found.append(Problem("class missing", message))
    box = _box(region.shape)
    if box is None:
        message = f"a region is {shown(region.shape)}, which is not a shape in pixels"
        found.append(Problem("box", message))
        return []
    return [Object(name, box) for name in names]


def _box(shape: Mapping[str, object]) -> tuple[float, float, float, float] | None:
    """The bounding box of a shape; None if it has none."""
    kind = text(shape.get("name"))
    if kind in ("polygon", "polyline"):
        x, y = shape.get("all_points_x"), shape.get("all_points_y")
        if not isinstance(x, list) or not isinstance(y, list) or len(x) != len(y):
            return None
        return extremes([list(point) for point in zip(x, y, strict=True)])
    fields = {
        "rect": ("x", "y", "width", "height"),
        "circle": ("cx", "cy", "r", "r"),
        "ellipse": ("cx", "cy", "rx", "ry"),
    }.get(kind, ())
    values = [number(shape.get(field)) for field in fields]
    angle = number(shape.get("theta", 0))
    known = [value for value in values if value is not None]
    if len(known) != 4 or angle is None:
        return None
    x, y, across, down = known
    if kind == "rect":
        return x, y, x + across, y + down
    if kind == "ellipse":
        cos, sin = math.cos(angle), math.sin(angle)
        across, down = math.hypot(across * cos, down * sin), math.hypot(across * sin, down * cos)
    return x - across, y - down, x + across, y + down
