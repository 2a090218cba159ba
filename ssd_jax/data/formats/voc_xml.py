"""Reads a folder in Pascal VOC's layout: Annotations, JPEGImages, ImageSets/Main."""

from collections.abc import Iterator
from pathlib import Path
from xml.etree.ElementTree import Element, ParseError

import numpy as np
from defusedxml import DefusedXmlException, ElementTree

from ssd_jax.data.annotations import Annotations
from ssd_jax.data.discovery import Splits
from ssd_jax.data.file_tree import FileTree
from ssd_jax.data.problems import MAX_PIXEL, Problem, Problems, file_exists
from ssd_jax.data.records import Annotation, Object, annotation
from ssd_jax.errors import UserError, shown
from ssd_jax.storage.files import local_path

IMAGE_SUFFIXES = {".jpg", ".jpeg", ".png"}
CORNERS = ("xmin", "ymin", "xmax", "ymax")
# Larger annotation files are refused unread. The largest of VOC have some 30 kB.
MAX_BYTES = 16 * 2**20


def open_voc_xml(root: str, split: str, problems: Problems) -> Annotations:
    """Reads the annotations of one split, in the order of its split file.

    Boxes are the XML's whole numbers divided by the image's size, as in Caffe and TensorFlow
    Datasets, so that times the size they are the XML's numbers again.

    Args:
      root: the folder that holds `Annotations`, `JPEGImages` and `ImageSets/Main`.
      split: the name of a file in `ImageSets/Main`, without `.txt`.
      problems: what becomes of images that are damaged or whose annotation is.

    Raises:
      UserError: a folder or the split file is missing or cannot be understood, or `problems` stops;
        the message names the file.
    """
    spec = f"voc_xml:{root}:{split}"
    folder = local_path(root)
    if not folder.is_dir():
        raise UserError(f"{spec}: the folder {folder} does not exist")
    split_file = folder / "ImageSets" / "Main" / f"{split}.txt"
    if not file_exists(split_file):
        known = sorted(path.stem for path in split_file.parent.glob("*.txt"))
        there = f"; there are {', '.join(known)}" if known else ""
        raise UserError(f"{spec}: {split_file} does not exist{there}")
    if not (folder / "JPEGImages").is_dir():
        raise UserError(f"{spec}: the folder {folder / 'JPEGImages'} does not exist")
    names = _listed_names(split_file)
    if not names:
        raise UserError(f"{spec}: {split_file} lists no images")
    return Annotations(_read(folder, split_file, names, problems), spec)


def find_voc_xml(tree: FileTree) -> Splits:
    """The sets in Pascal VOC's layout below a folder."""
    del tree
    return {}


def _read(
    folder: Path, split_file: Path, names: list[str], problems: Problems
) -> Iterator[Annotation]:
    """The annotations of the images of these names; `problems` collects damaged ones."""
    images_folder = folder / "JPEGImages"
    images = {
        path.stem: path
        for path in sorted(images_folder.iterdir())
        if path.suffix.lower() in IMAGE_SUFFIXES
    }
    seen = set()
    for image_id in names:
        problems.num_images += 1
        path = folder / "Annotations" / f"{image_id}.xml"
        if image_id in seen:
            found = [Problem("listed twice", f"lists {shown(image_id)} twice")]
            problems.add(split_file, image_id, found)
        elif image_id not in images:
            message = (
                f"lists {shown(image_id)}, but {images_folder} has no .jpg, .jpeg or .png of it"
            )
            problems.add(split_file, image_id, [Problem("image missing", message)])
        else:
            found = []
            read = _read_annotation(path, image_id, images[image_id], found)
            if found:
                problems.add(path, image_id, found)
            elif read:
                yield read
        seen.add(image_id)


def _listed_names(split_file: Path) -> list[str]:
    try:
        lines = split_file.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{split_file} is not a text file in UTF-8: {error}") from error
    # The per-class split files of VOC carry 1, 0 or -1 behind the name.
    return [line.split()[0] for line in lines if line.strip()]


def _read_annotation(
    path: Path, image_id: str, image_path: Path, found: list[Problem]
) -> Annotation | None:
    """The annotation; adds to `found` what is wrong with it."""
    root = _parse(path, found)
    if root is None:
        return None
    width = _number(root, "size/width", "size", found, default=0.0)
    height = _number(root, "size/height", "size", found, default=0.0)
    if width is None or height is None:
        return None
    objects = []
    for element in root.iter("object"):
        name = element.findtext("name", "").strip()
        if not name:
            found.append(Problem("class missing", "an <object> has no <name>"))
        box = [_number(element, f"bndbox/{corner}", "box", found) for corner in CORNERS]
        hard = _number(element, "difficult", "annotation form", found, default=0.0)
        objects.append(Object(name, [corner or 0.0 for corner in box], difficult=hard != 0))
    if found:
        return None
    return annotation(image_id, image_path, path, objects, (height, width))


def _parse(path: Path, found: list[Problem]) -> Element | None:
    """The root of an annotation file. Entities and what lies outside the file are never read."""
    if not file_exists(path):
        found.append(Problem("annotation missing", "does not exist"))
        return None
    try:
        size = path.stat().st_size
        if size > MAX_BYTES:
            message = f"has {size:,} bytes, more than the {MAX_BYTES:,} that are read"
            found.append(Problem("annotation unreadable", message))
            return None
        root = ElementTree.parse(path).getroot()
    # LookupError: of an unknown encoding; ValueError: of one that the parser cannot do.
    except (OSError, ParseError, DefusedXmlException, ValueError, LookupError) as error:
        message = f"is not an XML file that can be read: {error}"
        found.append(Problem("annotation unreadable", message))
        return None
    if root is None or root.tag != "annotation":
        begins = "" if root is None else f": it begins with <{shown(root.tag)[1:-1]}>"
        message = f"is not an annotation{begins}"
        found.append(Problem("annotation unreadable", message))
        return None
    return root


def _number(
    element: Element, tag: str, kind: str, found: list[Problem], default: float | None = None
) -> float | None:
    """The number in a tag, or None and one more in `found`."""
    text = (element.findtext(tag) or "").strip()
    if not text and default is not None:
        return default
    try:
        number = float(text)
    except ValueError:
        number = np.nan
    if abs(number) <= MAX_PIXEL:  # nor NaN
        return number
    tags = f"<{tag.replace('/', '><')}>"
    if text:
        message = f"{tags} is {shown(text)}, which is not a number of at most {MAX_PIXEL:,.0f}"
    else:
        message = f"an <object> has no {tags}"
    found.append(Problem(kind, message))
    return None
