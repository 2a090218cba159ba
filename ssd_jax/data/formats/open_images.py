"""Reads the boxes of Open Images, and exports of tools in its format.

    ImageID,Source,LabelName,Confidence,XMin,XMax,YMin,YMax,IsOccluded,IsTruncated,IsGroupOf,…
    000026e7ee790996,xclick,/m/07j7r,1,0.071,0.145,0.206,0.391,0,1,0,…

Boxes are fractions of the image. Groups (IsGroupOf) are crowds. The files list millions of images,
and people download a part of them: rows of images outside the folder are left out and counted.
"""

import collections
import dataclasses
import itertools
import logging
import re
import unicodedata
from collections.abc import Iterable, Iterator
from pathlib import Path, PurePosixPath

from ssd_jax.data.annotations import Annotations
from ssd_jax.data.discovery import WHOLE, Splits, kind_of
from ssd_jax.data.file_tree import FileTree
from ssd_jax.data.formats.arguments import file_and_folder
from ssd_jax.data.formats.csv_rows import OPEN_IMAGES, SUFFIXES, subtree
from ssd_jax.data.formats.csv_table import (
    CORNERS,
    Header,
    Objects,
    header_of,
    numbered_lines,
    split_line,
)
from ssd_jax.data.image_folders import split_of
from ssd_jax.data.problems import Problem, Problems
from ssd_jax.data.records import Annotation, annotation
from ssd_jax.data.spec import compose
from ssd_jax.errors import UserError, counted, first_names, shown

logger = logging.getLogger(__name__)

# Files with the names of labels like /m/07j7r, as written by Open Images, CVAT and FiftyOne. Of
# several files in a folder, the first pattern is used.
DESCRIPTIONS = (
    "*class-descriptions-boxable.csv",
    "*class-descriptions*.csv",
    "metadata/*class-descriptions*.csv",
    "metadata/classes.csv",
    "classes.csv",
)
# The number of folders above the file in which descriptions are searched.
FOLDERS_ABOVE = 2


@dataclasses.dataclass
class _Image:
    """The content of the rows of one image.

    Attributes:
      file: the image file, from the root.
      objects: the objects of its rows, with unchanged labels.
      problems: the problems of its rows.
    """

    file: str
    objects: Objects = dataclasses.field(default_factory=Objects)
    problems: list[Problem] = dataclasses.field(default_factory=list)


def open_open_images(annotations: str, image_dir: str, problems: Problems) -> Annotations:
    """Reads one file of boxes, with its images in the order of their first rows.

    Args:
      annotations: a file like `validation-annotations-bbox.csv`.
      image_dir: the folder of the images; they may be in subfolders.
      problems: handles damaged images and rows.

    Raises:
      UserError: the file or the folder is missing or cannot be understood, none of the images
        exists, or `problems` stops; the message names the file.
    """
    spec, path, folder = file_and_folder("open_images", annotations, image_dir)
    header = _header(path)
    if header is None:
        raise UserError(
            f"{path} is not a file of boxes of Open Images: its header needs the columns ImageID, "
            "LabelName, XMin, XMax, YMin and YMax"
        )
    tree = FileTree(folder)
    images, num_other_rows = _collect(path, header, tree, problems)
    if not images and not problems.found:
        raise UserError(
            f"{spec}: {folder} has {counted(len(tree.images), 'image')}, but none with an id of "
            f"the {counted(num_other_rows, 'row')}: name the files IMAGEID.jpg"
        )
    if num_other_rows:
        logger.warning(
            "%s: left out %s of images that are not in the folder; %s in the folder have rows",
            *(spec, counted(num_other_rows, "row"), counted(len(images), "image")),
        )
    used = {image.file for image in images.values()}
    without = [file for file in tree.images if file not in used]
    if without:
        count, listed = counted(len(without), "image"), first_names(without)
        logger.warning("%s: left out %s without a row: %s", spec, count, listed)
    names = _names(path, folder, images.values())
    return Annotations(_read(path, images, tree, names, problems), spec)


def find_open_images(tree: FileTree) -> Splits:
    """Finds the files of boxes below a folder."""
    splits: Splits = {}
    for file in tree.with_suffix(*SUFFIXES):
        try:
            if _header(tree.path(file)) is None:
                continue
        except UserError:  # not a text file
            continue
        split = kind_of(split_of(file))
        source = compose("open_images", tree.path(file), _image_folder(tree, file, split))
        splits.setdefault(split, []).append(source)
    return splits


def _header(path: Path) -> Header | None:
    """The header; None for other files."""
    for _, line in numbered_lines(path):
        header = header_of(line)
        return header if header and set(header.names) >= OPEN_IMAGES else None
    return None


def _image_folder(tree: FileTree, file: str, split: str) -> Path:
    """The nearest folder above the file that has images, or the folder of the split inside it."""
    parts = file.split("/")[:-1]
    for depth in range(len(parts), -1, -1):
        inside = subtree(tree, "/".join(parts[:depth]))
        if not inside.images:
            continue
        folders = {parent for image in inside.images for parent in PurePosixPath(image).parents}
        of_split = [each for each in folders if kind_of(each.name) == split]
        if len(of_split) == 1 and split != WHOLE:
            return inside.root / of_split[0]
        return inside.root  # also for train_0, train_1, …
    return tree.path(file).parent


def _collect(
    path: Path, header: Header, tree: FileTree, problems: Problems
) -> tuple[dict[str, _Image], int]:
    """Collects the rows of every existing image, by its id, and counts the other rows."""
    files: dict[str, list[str]] = collections.defaultdict(list)
    for file in tree.images:
        files[_composed(Path(file).stem)].append(file)
    images: dict[str, _Image] = {}
    num_other_rows = 0
    for number, line in itertools.islice(numbered_lines(path), 1, None):
        image_id = _composed(line.partition(header.separator)[0].strip())
        is_plain = header.places["file"] == 0 and image_id and not image_id.startswith('"')
        if is_plain and image_id not in files:
            num_other_rows += 1  # fast path for most of millions of lines
            continue
        fields = split_line(line, header.separator)
        if fields is None or len(fields) != header.num_columns:
            message = f"line {number} is not a row of {header.num_columns} columns: {shown(line)}"
            problems.add(path, f"line {number}", [Problem("annotation form", message)])
            continue
        image_id = _composed(header.text(fields, "file"))
        if image_id not in files:
            num_other_rows += 1
            continue
        if image_id not in images:
            images[image_id] = _Image(files[image_id][0])
            if len(files[image_id]) > 1:
                message = f"{image_id} may be {' or '.join(files[image_id][:3])} in {tree.root}"
                images[image_id].problems.append(Problem("ambiguous", message))
        _add_row(images[image_id], header, fields, f"line {number} ({image_id})")
    return images, num_other_rows


def _composed(name: str) -> str:
    """A name in Unicode's composed form; macOS decomposes accents."""
    return name if name.isascii() else unicodedata.normalize("NFC", name)


def _add_row(image: _Image, header: Header, fields: list[str], place: str) -> None:
    """Adds the object of a row."""
    texts = [header.text(fields, corner) for corner in CORNERS]
    name = fields[header.names.index("labelname")]
    box = [number for text in texts if (number := header.number(text)) is not None]
    if len(box) < len(CORNERS):
        message = f"{place}: the box is {shown(texts)}, but must be four numbers"
        image.problems.append(Problem("box", message))
    elif not name:
        image.problems.append(Problem("class missing", f"{place} has no LabelName"))
    else:
        crowd = header.text(fields, "crowd") == "1"
        image.objects.add(name, box, difficult=False, crowd=crowd)


def _read(
    path: Path,
    images: dict[str, _Image],
    tree: FileTree,
    names: dict[str, str],
    problems: Problems,
) -> Iterator[Annotation]:
    """Yields the annotation of every image; `problems` collects damaged ones."""
    for image_id, image in images.items():
        problems.num_images += 1
        if image.problems:
            problems.add(path, image_id, image.problems)
            continue
        objects = [
            each._replace(name=names.get(each.name, each.name)) for each in image.objects.listed()
        ]
        yield annotation(image_id, tree.path(image.file), path, objects, unit="fractions")


def _names(path: Path, folder: Path, images: Iterable[_Image]) -> dict[str, str]:
    """The names of the labels that occur, from a file of descriptions; {} without one."""
    labels = {name for image in images for name in image.objects.names()}
    if not any(re.fullmatch(r"/[a-z]/\w+", label) for label in labels):
        return {}  # the labels are names already
    for place in dict.fromkeys([*_above(path.parent), *_above(folder)]):
        for pattern in DESCRIPTIONS:
            for file in sorted(place.glob(pattern)):
                described = _descriptions(file)
                known = {label: described[label] for label in labels if label in described}
                if known:
                    return _distinct(known, labels, file)
    logger.warning(
        "%s: the classes keep their labels, like %s: no class-descriptions*.csv with names is next "
        "to the file or above it",
        *(path, min(labels)),
    )
    return {}


def _above(folder: Path) -> list[Path]:
    folders = [folder, *folder.absolute().parents[:FOLDERS_ABOVE]]
    return [each.absolute() for each in folders]


def _descriptions(file: Path) -> dict[str, str]:
    """The names of labels."""
    described = {}
    for _, line in numbered_lines(file):
        fields = split_line(line, ",")
        if fields and len(fields) >= 2 and fields[0] and fields[1]:
            described.setdefault(fields[0], fields[1])
    return described


def _distinct(known: dict[str, str], labels: set[str], file: Path) -> dict[str, str]:
    """Makes the names of different labels distinct; logs labels without a name."""
    unknown = sorted(labels - set(known))
    if unknown:
        logger.warning(
            "%s does not name %s: these classes keep their labels", file, first_names(unknown)
        )
    counts = collections.Counter(known.values())
    return {
        label: f"{name} ({label})" if counts[name] > 1 else name for label, name in known.items()
    }
