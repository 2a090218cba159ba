"""Locates the images, annotations and lists of a data set in Pascal VOC's XML."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from ssd_jax.data.file_tree import FileTree
from ssd_jax.data.image_folders import without_masks
from ssd_jax.data.problems import file_exists
from ssd_jax.data.stems import Stems
from ssd_jax.errors import UserError, shown
from ssd_jax.storage.files import read_text

IMAGE_FOLDERS = (
    "jpegimages",
    "images",
    "imgs",
    "image",
    "img",
    "jpegs",
    "jpgimages",
    "pngimages",
    "pictures",
    "photos",
    "data",
)
ANNOTATION_FOLDERS = ("annotations", "annotation", "annots", "xmls", "xml", "labels", "label")
FLAGGED = re.compile(r"(.*\S)\s+(-1|0|1)")
QUOTED = re.compile(r'"(.+)"(?:\s+(-1|0|1))?')
IMAGE_AND_XML = re.compile(r"(.*\S)\s+\S.*\.xml", re.IGNORECASE)


class Listed(NamedTuple):
    """The content of a list of images.

    Attributes:
      names: the names of the images that are used.
      num_left_out: the number of images marked with -1: they have no object of the list's class.
      is_marked: whether every line has a mark: -1, 0 or 1.
    """

    names: list[str]
    num_left_out: int
    is_marked: bool


def split_file(root: Path, split: str) -> Path | None:
    """The list of a split; None without one."""
    if Path(split).is_absolute():
        return None
    name = split.removesuffix(".txt") + ".txt"
    places = (root / "ImageSets/Main" / name, root / "ImageSets" / name, root / name)
    return next((place for place in places if file_exists(place)), None)


def known_splits(root: Path) -> list[str]:
    """The names of the lists of a data set."""
    folders = (root / "ImageSets/Main", root / "ImageSets")
    return next((names for f in folders if (names := sorted(p.stem for p in f.glob("*.txt")))), [])


def images_of(tree: FileTree) -> FileTree:
    """The image folder of a data set: `JPEGImages` or another usual name, or the whole folder.

    Raises:
      UserError: there are no images.
    """
    found = _subtree(tree, without_masks(tree.images), IMAGE_FOLDERS)
    if not found.images:
        raise UserError(f"{tree.root} has no folder JPEGImages, and no images elsewhere")
    return found


def annotations_of(tree: FileTree) -> FileTree:
    """The annotation folder: `Annotations` or another usual name, or the whole folder."""
    files = tree.with_suffix(".xml")
    if not files:
        return FileTree(tree.root / "Annotations", ())
    return _subtree(tree, files, ANNOTATION_FOLDERS)


def _subtree(tree: FileTree, files: list[str], names: Sequence[str]) -> FileTree:
    """The files in the first of these folders that exists; all files without such a folder."""
    by_folder: dict[str, list[str]] = {}
    for file in files:
        by_folder.setdefault(file.partition("/")[0] if "/" in file else "", []).append(file)
    by_name = {folder.lower(): folder for folder in by_folder if folder}
    for name in names:
        if name in by_name:
            folder = by_name[name]
            inside = tuple(file.partition("/")[2] for file in by_folder[folder])
            return FileTree(tree.root / folder, inside)
    return FileTree(tree.root, tuple(files))


def read_list(file: Path, images: Stems) -> Listed:
    """Reads a list of images, one per line.

    A name may contain blanks. A second column of -1, 0 or 1 (VOC's lists of one class) counts only
    if every line has it, and no whole line is the name of an image. CVAT writes names with blanks
    in double quotes; other tools write the annotation after the image.

    Args:
      file: the list.
      images: the existing images.

    Raises:
      UserError: the file is not a text file.
    """
    lines = [line.strip() for line in read_text(file).splitlines() if line.strip()]
    parts = [(line, None) if images.find(line) else name_and_flag(line) for line in lines]
    flags = [flag for _, flag in parts]
    if None in flags:
        # Without a flag in every line, the flags are parts of names.
        parts = [
            (line if flag else name, None) for line, (name, flag) in zip(lines, parts, strict=True)
        ]
    names = [name for name, flag in parts if flag != "-1"]
    return Listed(names, len(parts) - len(names), is_marked=bool(flags) and None not in flags)


def name_and_flag(line: str) -> tuple[str, str | None]:
    """The name in a line, and its mark or None."""
    quoted, flagged = QUOTED.fullmatch(line), FLAGGED.fullmatch(line)
    if quoted:
        return quoted[1], quoted[2]
    if flagged:
        return flagged[1], flagged[2]
    both = IMAGE_AND_XML.fullmatch(line)
    return (both[1] if both else line), None


def why_not_found(name: str, images: FileTree) -> str:
    """The reason why a listed name has no image, for a message."""
    if images.inside(name) is None:
        return f"lists {shown(name)}, which is outside {images.root}"
    return f"lists {shown(name)}, but {images.root} has no such image"
