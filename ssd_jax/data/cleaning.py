"""The cleaning stage of all formats: from annotations to records.

An ambiguous annotation (a wrong size, fractions instead of pixels, a misspelt class) is a problem:
it stops the program, or the image is left out. A clear mistake (a box that reaches outside the
image) is fixed, counted, and logged with the names of the images.
"""

import collections
import dataclasses
import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol

import numpy as np

from ssd_jax.data.classes import Classes
from ssd_jax.data.columns import Columns
from ssd_jax.data.folder_records import FolderRecords
from ssd_jax.data.headers import read_headers
from ssd_jax.data.problems import Problem, Problems, about_image
from ssd_jax.errors import counted, first_names, shown
from ssd_jax.images.limits import MAX_BYTES
from ssd_jax.storage.files import is_unsafe_to_read
from ssd_jax.threads import map_ahead, num_cores, pool_of_threads

logger = logging.getLogger(__name__)

# Larger coordinates are too far outside the image to be fractions, so they are pixels.
MAX_FRACTION = 1.5


# Odd factors of 64 bits for a hash of rows.
FACTORS = np.random.default_rng(0).integers(2**63, size=6, dtype=np.uint64) * np.uint64(
    2
) + np.uint64(1)


class Read(Protocol):
    """Annotations before cleaning; see `Annotations`."""

    origin: str
    columns: Columns
    in_pixels: np.ndarray
    files: Sequence[str]
    names: tuple[str, ...]

    def __len__(self) -> int: ...


def clean(read: Read, classes: Classes, problems: Problems) -> FolderRecords:
    """Checks the images, converts boxes to fractions, and gives the objects labels.

    Logs the number of boxes that were clipped, dropped or repeated, and of objects of other classes
    that were left out, with names of images. Images without objects are kept.

    Args:
      read: the annotations.
      classes: the classes to use.
      problems: collects images with wrong annotations.

    Raises:
      UserError: `problems` stops.
    """
    columns = read.columns
    sizes, kept = _sizes(read, problems)
    owners = columns.owners()
    by_name = np.array([classes.label(name) for name in read.names], np.int32)
    labels = by_name[columns.classes]
    kept &= _without_misspelt(read, classes, problems)
    kept &= _in_their_unit(read, kept, problems)

    clipped, has_area, is_outside = _clipped(read, sizes)
    in_class, of_kept = labels > 0, kept[owners]
    others = of_kept & ~in_class
    objects = of_kept & in_class & has_area
    _log_other_classes(read, others)
    _log_boxes(read, of_kept & in_class & ~has_area, "dropped {} without area")
    _log_boxes(read, objects & is_outside, "clipped {} at the edge of the image")
    _log_boxes(read, objects & _repeated(columns), "kept {} twice")

    columns = dataclasses.replace(columns, boxes=clipped, classes=labels, sizes=sizes)
    chosen = columns.chosen(kept, objects)
    return FolderRecords(chosen, chosen.boxes, chosen.classes, chosen.sizes, int(others.sum()))


def relabelled(read: Read, classes: Classes, problems: Problems) -> FolderRecords:
    """`clean` for annotations that need no cleaning; only classes are chosen.

    Args:
      read: the annotations, with the sizes of all images, and boxes as fractions.
      classes: the classes to use.
      problems: collects images with a class that is a misspelling of one of these.

    Raises:
      UserError: `problems` stops.
    """
    columns = read.columns
    labels = np.array([classes.label(name) for name in read.names], np.int32)[columns.classes]
    kept = _without_misspelt(read, classes, problems)
    others = labels == 0
    if not kept.all():
        others &= kept[columns.owners()]
    _log_other_classes(read, others)
    columns = dataclasses.replace(columns, classes=labels).chosen(kept, labels > 0)
    counted_others = int(others.sum())
    return FolderRecords(columns, columns.boxes, columns.classes, columns.sizes, counted_others)


def _clipped(read: Read, sizes: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Converts boxes to fractions of their images, and clips them to the images.

    Args:
      read: the annotations.
      sizes: `[images, 2]` height and width.

    Returns:
      `[objects, 4]` float32; `[objects] bool`: whether the box has some area; and `[objects] bool`:
      whether more than half a pixel of such a box was outside, which is more than rounding errors.
    """
    columns, owners = read.columns, read.columns.owners()
    clipped = np.empty(columns.boxes.shape, np.float32)
    has_area, is_outside = (np.empty(len(owners), bool) for _ in range(2))
    pixels = np.nan_to_num(sizes, nan=1.0)[:, ::-1]  # (width, height)
    units = np.where(read.in_pixels[:, None], sizes[:, ::-1], 1.0)

    def clip(piece: slice) -> None:
        own = owners[piece]
        with np.errstate(invalid="ignore"):
            corners = columns.boxes[piece].reshape(-1, 2, 2) / units[own][:, None]
            boxes = corners.astype(np.float32).reshape(-1, 4)
            # A box with some area is outside if its first corner is below 0 or its second above 1.
            outside = np.maximum(-boxes[:, :2], boxes[:, 2:] - 1) * pixels[own] > 0.5
            np.clip(boxes, 0.0, 1.0, out=clipped[piece])
        is_outside[piece] = outside[:, 0] | outside[:, 1]
        has_area[piece] = _have_area(clipped[piece])

    _for_each_piece(columns, clip)
    return clipped, has_area, is_outside


def _for_each_piece(columns: Columns, work: Callable[[slice], None]) -> None:
    """Calls a function with the slice of each piece of the objects, in a thread per core."""
    with pool_of_threads(num_cores()) as pool:
        for _ in map_ahead(pool, work, columns.pieces(), num_cores()):
            pass


def _have_area(boxes: np.ndarray) -> np.ndarray:
    """`[objects] bool`: whether boxes `[objects, 4] xyxy` have some area."""
    return (boxes[:, 2] > boxes[:, 0]) & (boxes[:, 3] > boxes[:, 1])


def _sizes(read: Read, problems: Problems) -> tuple[np.ndarray, np.ndarray]:
    """Compares stated sizes with the header of every image.

    Returns:
      `[images, 2]` height and width, upright, and `[images] bool`: whether the image is kept.
      Images with a wrong stated size are left out. An image that cannot be opened is kept with its
      stated size: training stops at it, or replaces it by an empty one. Files that are unsafe to
      open are left out.
    """
    columns = read.columns
    headers = read_headers(columns)
    stated, is_stated = columns.sizes, ~np.isnan(columns.sizes[:, 0])
    is_read = headers.sizes[:, 0] > 0
    sizes, kept = np.where(is_read[:, None], headers.sizes, stated), np.ones(len(read), bool)
    differs = is_read & is_stated & (stated != headers.sizes).any(axis=1)
    for index in np.flatnonzero(differs | ~is_read).tolist():
        if error := headers.errors.get(index):
            found = Problem("image unreadable", str(error))
            is_unsafe = is_unsafe_to_read(columns.paths[index], MAX_BYTES)
            if problems.skips and is_stated[index] and not is_unsafe:
                continue
            place = read.files[index] if columns.span(index) else columns.paths[index]
        else:
            actual = tuple(headers.sizes[index].tolist())
            size, is_turned = tuple(stated[index].tolist()), bool(headers.turned[index])
            kind, message = _wrong_size(size, actual, is_turned)
            place = read.files[index]
            found = Problem(kind, about_image(message, _image_name(columns, index), place))
        problems.add(place, columns.image_ids[index], [found])
        kept[index] = False
    return sizes, kept


def _wrong_size(stated: tuple[float, float], actual: tuple[int, int], is_turned: bool) -> Problem:
    """The problem of a stated size that differs from the image; sizes are (height, width)."""
    said, seen = (f"{width:g} × {height:g}" for height, width in (stated, actual))
    if stated == actual[::-1] and is_turned:
        return Problem("turned", f"EXIF rotates the image to {seen}, but it is annotated as {said}")
    message = f"states {said}, but the image has {seen} pixels"
    if stated == actual[::-1]:
        return Problem("size differs", f"{message}: probably width and height were exchanged")
    ratios = actual[0] / stated[0], actual[1] / stated[1]
    if abs(ratios[0] - ratios[1]) < 0.02 * ratios[0]:
        message += f": probably the image was resized by {ratios[0]:.3g} after it was annotated"
    return Problem("size differs", message)


def _in_their_unit(read: Read, kept: np.ndarray, problems: Problems) -> np.ndarray:
    """`[images] bool`: whether boxes have the stated unit: pixels or fractions."""
    columns = read.columns
    owners = columns.owners()
    largest, has_part = np.full(len(read), -np.inf), np.zeros(len(read), bool)
    for piece in columns.pieces():
        boxes, own = columns.boxes[piece], owners[piece]
        has_area = _have_area(boxes)
        smallest, greatest = (
            choose(boxes[:, side], boxes[:, side + 1])
            for choose, side in ((np.minimum, 0), (np.maximum, 2))
        )
        np.maximum.at(largest, own[has_area], greatest[has_area])
        # A box inside the first pixel is too small for an object: its unit is wrong.
        in_part = has_area & (smallest >= 0) & (greatest <= 1)
        in_part[in_part] = np.any(boxes[in_part] % 1 > 0, axis=1)
        has_part[own[in_part]] = True
    is_fraction = read.in_pixels & (((largest <= 1) & (largest > 0)) | has_part)
    is_pixel = ~read.in_pixels & (largest > MAX_FRACTION)
    wrong = kept & (is_fraction | is_pixel)
    for index in np.flatnonzero(wrong).tolist():
        own = columns.boxes[columns.objects(index)]
        in_part = own[own.max(axis=1) <= 1]
        first = (in_part if is_fraction[index] else own)[0].round(4).tolist()
        image = _image_name(columns, index)
        if is_fraction[index]:
            message = (
                f"the boxes of {image} are between 0 and 1, but must be in pixels (the first is "
                f"{first}): probably they are fractions of the image"
            )
        else:
            message = (
                f"the boxes of {image} reach {largest[index]:g}, but must be fractions from 0 to 1 "
                f"(the first is {first}): probably they are pixels"
            )
        problems.add(read.files[index], columns.image_ids[index], [Problem("unit", message)])
    return ~wrong


def _without_misspelt(read: Read, classes: Classes, problems: Problems) -> np.ndarray:
    """`[images] bool`: whether the image is free of misspelt class names."""
    columns = read.columns
    meant = [classes.misspelt(name) for name in read.names]
    kept = np.ones(len(read), bool)
    if not any(meant):
        return kept
    of_object = np.array([bool(name) for name in meant], bool)[columns.classes]
    for index in map(int, np.unique(columns.owners()[of_object])):
        kept[index] = False
        own = columns.objects(index)
        image = _image_name(columns, index)
        found = [
            Problem(
                "class unknown",
                f"an object of {image} has the class {shown(read.names[i])}, which is not among "
                f"the classes ({', '.join(classes.names)}); the nearest is {meant[i]!r}",
            )
            for i in np.unique(columns.classes[own][of_object[own]]).tolist()
        ]
        problems.add(read.files[index], columns.image_ids[index], found)
    return kept


def _repeated(columns: Columns) -> np.ndarray:
    """`[objects] bool`: whether an earlier object of the image has the same class and box."""
    repeated, owners = np.zeros(len(columns.boxes), bool), columns.owners()

    def find(piece: slice) -> None:
        numbers = [owners[piece], columns.classes[piece], *columns.boxes[piece].T]
        # Few different rows have the same sum; rows with the same sum are compared.
        sums = np.zeros(piece.stop - piece.start, np.uint64)
        for column, factor in zip(numbers, FACTORS, strict=True):
            sums += (column.astype(np.float64) + 0.0).view(np.uint64) * factor  # -0 becomes 0
        order = np.argsort(sums)
        same = sums[order[1:]] == sums[order[:-1]]
        places = np.unique(np.concatenate([order[1:][same], order[:-1][same]]))
        if len(places):
            rows = np.column_stack([column[places] for column in numbers])
            _, first = np.unique(rows + 0.0, axis=0, return_index=True)
            repeated[piece.start + np.delete(places, first)] = True

    _for_each_piece(columns, find)
    return repeated


def _log_boxes(read: Read, objects: np.ndarray, message: str) -> None:
    """Logs a message about boxes and their images; {} is replaced by the number of boxes."""
    count = int(objects.sum())
    if count:
        images = collections.Counter(read.columns.owners()[objects].tolist())
        formatted = message.format(counted(count, "box"))
        logger.warning("%s: %s: %s", read.origin, formatted, _image_names(read, images))


def _log_other_classes(read: Read, objects: np.ndarray) -> None:
    """Logs the number of left out objects of other classes."""
    if objects.any():
        counts = collections.Counter(read.columns.classes[objects].tolist())
        listed = [f"{read.names[i]} ({count})" for i, count in counts.most_common()]
        logger.warning(
            "%s: left out %s of other classes: %s",
            *(read.origin, counted(int(objects.sum()), "object"), first_names(listed, 20)),
        )


def _image_name(columns: Columns, index: int) -> str:
    """The name of an image in messages."""
    return columns.image_ids[index] if columns.span(index) else Path(columns.paths[index]).name


def _image_names(read: Read, images: collections.Counter[int]) -> str:
    names = [_image_name(read.columns, index) for index in images]
    if len(set(names)) < len(names):  # in several folders
        names = [_with_folder(read.columns, index) for index in images]
    counts = [f" ({count})" if count > 1 else "" for count in images.values()]
    return first_names([name + count for name, count in zip(names, counts, strict=True)])


def _with_folder(columns: Columns, index: int) -> str:
    """The end of an image's path, with the folder that it is in."""
    return "/".join(Path(columns.paths[index]).parts[-2:])
