"""Reads CSV files with a row for each object, as in tutorials of TensorFlow's detection API.

    filename,width,height,class,xmin,ymin,xmax,ymax
    a.jpg,640,480,cat,12,30,200,180
    b.jpg,640,480,,,,,

The columns may be in any order and have other usual names; width and height may be missing. A row
without class and box marks an image without objects. Images of the folder without a row are left
out. Files without a header have the columns of RetinaNet: path,x1,y1,x2,y2,class.
"""

import dataclasses
import itertools
import logging
from collections.abc import Iterator
from pathlib import Path

from ssd_jax.data.annotations import Annotations
from ssd_jax.data.discovery import TRAIN_NAMES, WHOLE, Splits, kind_of
from ssd_jax.data.file_tree import IMAGE_SUFFIXES, FileTree
from ssd_jax.data.formats.arguments import file_and_folder
from ssd_jax.data.formats.csv_table import (
    CORNERS,
    Header,
    Objects,
    header_of,
    numbered_lines,
    split_line,
)
from ssd_jax.data.image_folders import split_of
from ssd_jax.data.problems import MAX_PIXEL, Problem, Problems
from ssd_jax.data.records import Annotation, annotation
from ssd_jax.data.spec import compose
from ssd_jax.errors import UserError, counted, first_names, shown

logger = logging.getLogger(__name__)

# Only files of Open Images have all of these columns; see `open_images.py`.
OPEN_IMAGES = {"imageid", "labelname", "xmin", "xmax", "ymin", "ymax"}

RETINANET = Header(
    ",", {"file": 0, "x_min": 1, "y_min": 2, "x_max": 3, "y_max": 4, "class": 5}, num_columns=6
)
SUFFIXES = (".csv", ".tsv")
# Names of a column with the split of an image.
SPLIT_COLUMNS = ("split", "subset", "set", "usage", "fold")
# The number of rows that are used to find the folder of the images.
NUM_TRIED = 200


@dataclasses.dataclass
class _Image:
    """The content of the rows of one image.

    Attributes:
      name: the name of the image in its first row.
      path: the image file; `name` if there is no such file.
      size: (height, width) in pixels; None if not stated.
      objects: the objects of its rows.
      problems: the problems of its rows.
    """

    name: str
    path: str
    size: tuple[float, float] | None = None
    objects: Objects = dataclasses.field(default_factory=Objects)
    problems: list[Problem] = dataclasses.field(default_factory=list)


def open_csv(annotations: str, image_dir: str, problems: Problems) -> Annotations:
    """Reads one file, with its images in the order of their first rows.

    Args:
      annotations: a file like `train_labels.csv`.
      image_dir: the folder of its images.
      problems: handles damaged images and rows.

    Raises:
      UserError: the file or the folder is missing or cannot be understood, or `problems` stops; the
        message names the file.
    """
    spec, path, folder = file_and_folder("csv", annotations, image_dir)
    header = _header(path)
    if header is None:
        first = next((line for _, line in numbered_lines(path)), "")
        raise UserError(
            f"{path} needs a header with the columns filename, class, xmin, ymin, xmax and ymax, "
            f"but begins with {shown(first)}"
        )
    if set(header.names) >= OPEN_IMAGES:
        place = compose("open_images", annotations, image_dir)
        raise UserError(f"{path} has the columns of Open Images: read it as {place}")
    tree = FileTree(folder)
    images = _collect(path, header, tree, problems)
    if not images and not problems.found:
        raise UserError(f"{path} has no rows below its header")
    _log_without_rows(spec, images, tree)
    if column := next((name for name in header.names if name in SPLIT_COLUMNS), ""):
        message = "%s: the column %s is not used: write a separate file for each split"
        logger.warning(message, spec, column)
    return Annotations(_read(path, images, folder, header, problems), spec)


def find_csv(tree: FileTree) -> Splits:
    """Finds the CSV files with boxes below a folder."""
    splits: Splits = {}
    for file in tree.with_suffix(*SUFFIXES):
        try:
            header = _header(tree.path(file))
            if header is None or set(header.names) >= OPEN_IMAGES:
                continue
            split = kind_of(split_of(file))
            folder = _image_folder(tree, file, header, split)
        except UserError as error:  # not a text file
            logger.warning("left out: %s", error)
            continue
        splits.setdefault(split, []).append(compose("csv", tree.path(file), folder))
    if WHOLE in splits and any(kind_of(split) in TRAIN_NAMES for split in splits):
        # TensorFlow's tutorials write all rows to one file first, and then one file for each split.
        message = "%s: not read, because there is a split for training: %s"
        logger.info(message, tree.root, splits[WHOLE])
        del splits[WHOLE]
    return splits


def subtree(tree: FileTree, folder: str) -> FileTree:
    """The files below one of the folders; all files for ""."""
    prefix = f"{folder}/" if folder else ""
    inside = tuple(file[len(prefix) :] for file in tree.files if file.startswith(prefix))
    return FileTree(tree.root / folder, inside)


def _header(path: Path) -> Header | None:
    """The header, or `RETINANET` for a file without one; None for other files."""
    lines = [line for _, line in itertools.islice(numbered_lines(path), 20)]
    if not lines:
        return None
    header = header_of(lines[0])
    if header is None and all(_is_retinanet(line) for line in lines):
        return RETINANET
    return header


def _is_retinanet(line: str) -> bool:
    """Whether a line is path,x1,y1,x2,y2,class or path,,,,,."""
    fields = split_line(line, ",")
    if fields is None or len(fields) != RETINANET.num_columns:
        return False
    suffix = Path(fields[0].replace("\\", "/")).suffix.lower()
    corners = [RETINANET.number(field) for field in fields[1:5]]
    is_object = None not in corners and bool(fields[5])
    return suffix in IMAGE_SUFFIXES and (is_object or not any(fields[1:]))


def _image_folder(tree: FileTree, file: str, header: Header, split: str) -> Path:
    """The nearest folder that contains all images of the first rows.

    The search begins at the folder of the file and continues in the folders above. In each folder,
    its subfolders for images of the split come first.
    """
    lines = itertools.islice(numbered_lines(tree.path(file)), 1, 1 + NUM_TRIED)
    fields = [split_line(line, header.separator) for _, line in lines]
    names = {row[header.places["file"]] for row in fields if row and len(row) == header.num_columns}
    parts = file.split("/")[:-1]
    for depth in range(len(parts), -1, -1):
        own = "/".join(parts[:depth])
        prefix = f"{own}/" if own else ""
        of_split = [f"{prefix}{inner}{split}" for inner in ("", "images/")]
        for folder in (*of_split, own) if split != WHOLE else (own,):
            inside = subtree(tree, folder)
            if inside.images and all(isinstance(_find(inside, name), Path) for name in names):
                return inside.root
    return tree.path(file).parent


def _find(tree: FileTree, name: str) -> Path | Problem:
    """The image with this name, which may lack its suffix."""
    found = tree.image(name)
    if isinstance(found, Problem) and Path(name).suffix.lower() not in IMAGE_SUFFIXES:
        by_stem = tree.image_of_stem(name)
        return found if isinstance(by_stem, Problem) and by_stem.kind != "ambiguous" else by_stem
    return found


def _collect(path: Path, header: Header, tree: FileTree, problems: Problems) -> dict[str, _Image]:
    """Collects the rows of every image, by its path, or by its name if it was not found."""
    images: dict[str, _Image] = {}
    found: dict[str, _Image] = {}
    for number, line in itertools.islice(numbered_lines(path), bool(header.names), None):
        fields = split_line(line, header.separator)
        while fields and len(fields) > header.num_columns and not fields[-1]:
            fields.pop()
        if fields is None or len(fields) != header.num_columns or not header.text(fields, "file"):
            message = (
                f"line {number} is not a row of {header.num_columns} columns with a file name: "
                f"{shown(line)}"
            )
            problems.add(path, f"line {number}", [Problem("annotation form", message)])
            continue
        name = header.text(fields, "file")
        if name not in found:
            place = _find(tree, name)
            key = name if isinstance(place, Problem) else str(place)
            found[name] = images.setdefault(key, _Image(name, key))
            if isinstance(place, Problem):
                message = f"line {number}: {place.message}"
                found[name].problems.append(Problem(place.kind, message))
        _add_row(found[name], header, fields, f"line {number} ({shown(name)})")
    return images


def _add_row(image: _Image, header: Header, fields: list[str], place: str) -> None:
    """Adds the content of a row to its image."""
    sides = [header.text(fields, side) for side in ("height", "width")]
    if any(sides):
        height, width = (header.number(side) for side in sides)
        if height is None or width is None or min(height, width) < 0:
            message = f"{place}: height and width are {shown(sides)}, which are not pixels"
            image.problems.append(Problem("size", message))
        elif image.size not in (None, (height, width)):
            message = f"{place} has the size {width:g} × {height:g}, but an earlier row differs"
            image.problems.append(Problem("size", message))
        else:
            image.size = (height, width)
    name, texts = header.text(fields, "class"), [header.text(fields, side) for side in CORNERS]
    if not any(texts) and not name:
        return  # the image has no objects
    corners = [header.number(text) for text in texts]
    box = [corner for corner in corners if corner is not None]
    if len(box) < len(CORNERS):
        message = (
            f"{place}: the box is {shown(texts)}, but must be four numbers of at most "
            f"{MAX_PIXEL:,.0f}"
        )
        image.problems.append(Problem("box", message))
    elif not name:
        image.problems.append(Problem("class missing", f"{place} has no class"))
    elif not header.names and (box[2] < box[0] or box[3] < box[1]):
        message = (
            f"{place}: the box {shown(texts)} ends before it begins; a box of x, y, width and "
            "height needs a header"
        )
        image.problems.append(Problem("box", message))
    else:
        difficult, crowd = (
            header.text(fields, flag).lower() in ("1", "true", "yes")
            for flag in ("difficult", "crowd")
        )
        image.objects.add(name, box, difficult, crowd)


def _read(
    path: Path, images: dict[str, _Image], folder: Path, header: Header, problems: Problems
) -> Iterator[Annotation]:
    """Yields the annotation of every image; `problems` collects damaged ones."""
    unit = "fractions" if header.fractions else "pixels"
    seen = set()
    for image in images.values():
        problems.num_images += 1
        image_path = Path(image.path)
        if image_path.is_relative_to(folder):
            name = image_path.relative_to(folder)
            image_id = name.with_suffix("").as_posix()
            image_id = name.as_posix() if image_id in seen else image_id
        else:
            image_id = image.name
        seen.add(image_id)
        if image.problems:
            problems.add(path, image_id, image.problems)
        else:
            yield annotation(image_id, image.path, path, image.objects.listed(), image.size, unit)


def _log_without_rows(spec: str, images: dict[str, _Image], tree: FileTree) -> None:
    used = {Path(image.path) for image in images.values()}
    without = [file for file in tree.images if tree.path(file) not in used]
    if without:
        count, names = counted(len(without), "image"), first_names(without)
        logger.info("%s: left out %s without a row: %s", spec, count, names)
