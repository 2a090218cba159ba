"""Locates the images and classes of a YOLO data set: data.yaml, Darknet's obj.data, folders."""

import logging
import os
import re
from collections.abc import Iterator
from pathlib import Path, PureWindowsPath
from typing import NamedTuple

import yaml

from ssd_jax.config.spelling import nearest
from ssd_jax.data.discovery import WHOLE
from ssd_jax.data.file_tree import IMAGE_SUFFIXES, FileTree
from ssd_jax.data.formats.values import number, numbers, text
from ssd_jax.data.problems import Problem, Problems
from ssd_jax.data.split_names import SPLIT_NAMES, is_split
from ssd_jax.errors import UserError, shown
from ssd_jax.storage.files import read_text

logger = logging.getLogger(__name__)

MAX_BYTES = 2**18  # larger files declare no classes
DATA_FILES = ("data.yaml", "data.yml")
CLASSES = re.compile(r"^(names|nc)[ \t]*:", re.MULTILINE)
SPLIT_KEYS = ("train", "val", "valid", "test")
# Files with one class per line: of labelImg and Label Studio, Darknet, Roboflow.
NAME_FILES = ("classes.txt", "labels.txt", "names.txt", "predefined_classes.txt", "_darknet.labels")


class Layout(NamedTuple):
    """The declarations of a file or folder.

    Attributes:
      file: a data.yaml or obj.data, or the folder itself.
      names: the classes by index; None if not declared.
      splits: folders and lists of images by split, unchanged.
      base: `path` of a data.yaml, unchanged.
      keypoints: the number of values after the box in a line.
      names_file: the file with the classes; None if not declared.
    """

    file: Path
    names: dict[int, str] | None
    splits: dict[str, list[str]]
    base: str = ""
    keypoints: int = 0
    names_file: Path | None = None

    @property
    def folder(self) -> Path:
        return self.file if self.file.is_dir() else self.file.parent


def declared(file: Path) -> Layout | None:
    """Reads the declarations of a data.yaml or obj.data; None for other files.

    Raises:
      UserError: it is not valid YAML, its classes are inconsistent, or a data.yaml has none.
    """
    try:
        written = read_text(file, MAX_BYTES)
    except UserError as error:
        logger.warning("left out: %s", error)
        return None
    content = _content(file, written)
    count = number(content.get("nc") or content.get("classes"))
    splits = {}
    for key in SPLIT_KEYS:
        value = content.get(key)
        entries = [text(each) for each in (value if isinstance(value, list) else [value])]
        if any(entries):
            splits[key] = [entry for entry in entries if entry]
    if "names" not in content and (count is None or not splits):
        if file.name.lower() not in DATA_FILES:
            return None
        near = nearest("names", content)
        hint = f" (did you mean names, not {near}?)" if near else ""
        raise UserError(f"{file} has no names, the list of classes{hint}: add names: [cat, dog]")
    names_file, names = _declared_names(file, content.get("names"))
    if names is not None and count is not None and count not in (len(names), max(names) + 1):
        raise UserError(
            f"{file} declares {count:g} classes, but names {len(names)} "
            f"({', '.join(list(names.values())[:10])}): make nc and names agree"
        )
    shape = numbers(content.get("kpt_shape"))
    keypoints = int(shape[0] * shape[1]) if shape and len(shape) == 2 else 0
    return Layout(file, names, splits, text(content.get("path")), keypoints, names_file)


def _content(file: Path, content: str) -> dict[str, object]:
    """The fields of a data.yaml or obj.data; {} for other files."""
    if file.suffix.lower() == ".data":
        pairs = [line.partition("=") for line in content.splitlines()]
        return {key.strip(): value.strip() for key, sign, value in pairs if sign}
    if file.name.lower() not in DATA_FILES and not CLASSES.search(content):
        return {}  # not parsed, because parsing YAML takes long
    error = None
    # YAML does not allow tabs as indentation, but people write them.
    for attempt in (content, content.replace("\t", "  ")):
        try:
            # All values are texts, so that "no" and "1.0" are possible names of classes.
            loaded = yaml.load(attempt, Loader=yaml.BaseLoader)
        except (yaml.YAMLError, ValueError, RecursionError, AttributeError, TypeError) as raised:
            error = raised
            continue
        return loaded if isinstance(loaded, dict) else {}
    raise UserError(f"{file} is not valid YAML: {_reason(error)}: correct it") from error


def _reason(error: object) -> str:
    """The reason why a file is not YAML, with the line where its faulty part begins."""
    if not isinstance(error, yaml.MarkedYAMLError):
        return "it cannot be read"
    mark = error.context_mark or error.problem_mark
    where = f"line {mark.line + 1}: " if mark else ""
    return f"{where}{error.problem or error.context}"


def _declared_names(file: Path, value: object) -> tuple[Path, dict[int, str]] | tuple[None, None]:
    """The classes of the field `names`: a list, a dict by index, or a file with one class per line.

    Returns:
      The file with the classes, and the classes; (None, None) without classes.
    """
    if value is None or value == "":
        return None, None
    if isinstance(value, str):
        listed = Path(value.replace("\\", "/"))
        places = (file.parent / listed, file.parent / listed.name, listed)
        found = next((place for place in places if place.is_file()), None)
        if found is None:
            raise UserError(f"{file} names {value} as its file of classes, but it does not exist")
        return found, read_names(found)
    if not isinstance(value, list | dict):
        raise UserError(f"{file}: names is {shown(value)}, which is not a list of classes")
    names: dict[int, str] = {}
    for key, name in enumerate(value) if isinstance(value, list) else value.items():
        index = number(key)
        if index is None or index < 0 or not index.is_integer() or not text(name):
            raise UserError(f"{file}: names has {shown(key)}: {shown(name)}, which is not a class")
        if text(name) in names.values():
            raise UserError(f"{file}: names has the class {shown(text(name))} twice")
        names[int(index)] = text(name)
    if not names:
        raise UserError(f"{file}: names lists no classes: list them, like names: [cat, dog]")
    return file, dict(sorted(names.items()))


def read_names(file: Path) -> dict[int, str]:
    """Reads a file with one class per line.

    Raises:
      UserError: the file cannot be read, or has a class twice.
    """
    lines = [text(line) for line in read_text(file, MAX_BYTES).rstrip().splitlines()]
    repeated = next((line for i, line in enumerate(lines) if line in lines[:i]), None)
    if repeated is not None:
        raise UserError(f"{file} has the class {shown(repeated)} twice")
    return {index: name for index, name in enumerate(lines) if name}


def names_in(tree: FileTree) -> tuple[Path, dict[int, str]] | tuple[None, None]:
    """Reads the classes from the files of a folder with one class per line.

    Returns:
      The first of these files and the classes; (None, None) without such a file.

    Raises:
      UserError: two files differ.
    """
    known: tuple[Path, dict[int, str]] | None = None
    for file in tree.files:
        name = file.rpartition("/")[2].lower()
        if name not in NAME_FILES and not name.endswith(".names"):
            continue
        names = read_names(tree.path(file))
        if known and known[1] != names:
            raise UserError(
                f"{known[0]} and {tree.path(file)} list different classes: write one data.yaml, or "
                "name each folder as a separate source"
            )
        known = known or (tree.path(file), names)
    return known or (None, None)


def layouts_in(tree: FileTree) -> Iterator[Layout]:
    """Yields the declarations of a folder's files; of two files with the same images, the first.

    Raises:
      UserError: two files with the same images have different classes.
    """
    seen: dict[tuple, Layout] = {}
    for file in tree.with_suffix(".yaml", ".yml", ".data"):
        layout = declared(tree.path(file))
        if layout is None:
            continue
        if layout.splits:
            key = tuple(str(place) for split in layout.splits for place in _known(layout, split))
            first = seen.setdefault(key, layout)
            if key and first is not layout:
                if first.names != layout.names:
                    raise UserError(
                        f"{first.file} and {layout.file} name the same images, but different "
                        "classes: name one of them"
                    )
                continue
        yield layout


def lists_in(tree: FileTree) -> dict[str, list[str]]:
    """The text files with the name of a split that list images, by split."""
    lists: dict[str, list[str]] = {}
    for file in tree.with_suffix(".txt"):
        name = file.rpartition("/")[2][:-4]
        if name.lower() not in SPLIT_NAMES:
            continue
        try:
            lines = read_text(tree.path(file)).splitlines()
        except UserError:
            continue
        names = [line.strip() for line in lines if line.strip()]
        if names and all(Path(name).suffix.lower() in IMAGE_SUFFIXES for name in names):
            lists.setdefault(name, []).append(file)
    return lists


def grouped(tree: FileTree) -> dict[str, list[str]]:
    """The images of a folder by split; the names of their folders determine the split."""
    groups: dict[str, list[str]] = {}
    for image in tree.images:
        groups.setdefault(_split_of(image.split("/")[:-1]), []).append(image)
    return groups


def _split_of(folders: list[str]) -> str:
    places = [i for i, folder in enumerate(folders) if folder.lower() == "images"]
    last = places[-1] if places else len(folders)
    nearest_first = [*folders[last + 1 : last + 2], *reversed(folders[:last])]
    return next((name for name in nearest_first if is_split(name)), WHOLE)


def split_images(layout: Layout, split: str, problems: Problems) -> tuple[Path, list[Path]]:
    """The images of a declared split.

    Returns:
      The folder to which their ids are relative, and the images in order.

    Raises:
      UserError: a folder or list does not exist, or `problems` stops.
    """
    images: list[Path] = []
    folders: list[Path] = []
    for entry in layout.splits[split]:
        place = _place(layout, entry)
        if place is None:
            tried = ", ".join(str(each) for each in _candidates(layout, entry)[:3])
            raise UserError(
                f"{layout.file}: {split} is {entry}, but no such folder or file exists "
                f"(tried {tried})"
            )
        if place.is_dir():
            own = [place / image for image in FileTree(place).images]
            folders.append(place)
        else:
            own = list(_listed(layout, place, problems))
            folders += [image.parent for image in own]
        images += own
    if not images:
        raise UserError(f"{layout.file}: {split} has no images")
    return Path(os.path.commonpath([os.path.abspath(folder) for folder in folders])), images


def exists(layout: Layout, split: str) -> bool:
    """Whether the folders or lists of a split exist."""
    return all(_place(layout, entry) for entry in layout.splits[split])


def _known(layout: Layout, split: str) -> list[Path]:
    places = [_place(layout, entry) for entry in layout.splits[split]]
    return [place.resolve() for place in places if place]


def _place(layout: Layout, entry: str) -> Path | None:
    """The folder or file of an entry of a split.

    Raises:
      UserError: an entry like `../train/images` may be two folders.
    """
    found = [place for place in _candidates(layout, entry) if os.path.exists(place)]
    if not found:
        return None
    if entry.startswith("..") and len({place.resolve() for place in found}) > 1 and not layout.base:
        raise UserError(
            f"{layout.file}: {entry} may be {found[0]} or {found[1]}: write the right one"
        )
    return found[0]


def _candidates(layout: Layout, entry: str) -> list[Path]:
    """Possible paths of an entry, in order of preference."""
    path, folder, base = _slashed(entry), layout.folder, _slashed(layout.base)
    if _is_absolute(entry):
        parts = [part for part in path.split("/") if part][1:]
        return [Path(path), *(folder / "/".join(parts[i:]) for i in range(len(parts)))]
    bases = [Path(base)] if _is_absolute(layout.base) else []
    if base and not bases:
        bases = [folder / base, Path(base), folder.parent / base]
    bases.append(folder)
    candidates = [start / path for start in bases]
    if layout.file.suffix.lower() == ".data":  # Darknet starts above it, CVAT's file is next to it
        candidates += [folder.parent / path, folder / path.split("/", 1)[-1]]
    while path.startswith("../"):  # Roboflow's folders are next to the file
        path = path[3:]
        candidates.append(folder / path)
    return [Path(os.path.normpath(candidate)) for candidate in candidates]


def _listed(layout: Layout, file: Path, problems: Problems) -> Iterator[Path]:
    """Yields the images of a text file with one image per line."""
    tree = FileTree(layout.folder)
    seen = set()
    for line in read_text(file).splitlines():
        if not line.strip():
            continue
        name = _slashed(line.strip())
        places = [Path(os.path.normpath(start / name)) for start in (file.parent, layout.folder)]
        found: Path | Problem | None = next((p for p in places if os.path.isfile(p)), None)
        if found is None:
            relative = "/".join(part for part in name.split("/") if part not in ("..", "."))
            found = tree.image(relative.partition("/")[2] if _is_absolute(name) else relative)
        if isinstance(found, Path) and found in seen:
            found = Problem("listed twice", f"lists {shown(name)} twice")
        if isinstance(found, Problem):
            problems.num_images += 1
            problems.add(file, name, [found])
            continue
        seen.add(found)
        yield found


def _slashed(path: str) -> str:
    return path.replace("\\", "/")


def _is_absolute(path: str) -> bool:
    return path.startswith("/") or bool(PureWindowsPath(path).drive)
