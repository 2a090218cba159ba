"""Matches the images of a COCO file with its objects and with the files in a folder.

Intact entries are processed in columns. Only entries that may be damaged are checked one by one.
"""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ssd_jax.data.columns import Columns, Strings
from ssd_jax.data.file_tree import IMAGE_SUFFIXES, FileTree
from ssd_jax.data.formats.coco_rows import NO_ID, Id, Ids, ImageRows, ObjectRows
from ssd_jax.data.formats.coco_values import (
    area_of,
    box_of_entry,
    flag,
    identity,
    name_of,
    size_of,
)
from ssd_jax.data.problems import MAX_PIXEL, Problem, Problems
from ssd_jax.errors import counted, first_names, shown

AT_ONCE = 2**20  # the number of objects that are looked up together


class CocoFile(NamedTuple):
    """An annotation file.

    Attributes:
      path: the path of the file.
      tree: the folder of its images.
      names: the names of the categories, by id.
      ids: the ids of images and categories.
    """

    path: Path
    tree: FileTree
    names: dict[int, str]
    ids: Ids


def match(
    images: ImageRows, objects: ObjectRows, file: CocoFile, problems: Problems
) -> tuple[Columns, tuple[str, ...], str]:
    """Computes the annotation of every image.

    Args:
      images: the images; some of their columns are removed, to save memory.
      objects: the objects; some of their columns are removed, to save memory.
      file: the annotation file.
      problems: collects damaged images, in the order of the file.

    Returns:
      The columns, with boxes in pixels; the names of their classes, in the order of their first
      occurrence; and a description of the images of the folder that are not in the file, or "".
    """
    numbers = images.columns.column("number")
    wanted = objects.columns.pop("image")
    owners, is_repeated = _owners(wanted, numbers)
    _report_unknown_images(objects, np.flatnonzero(owners < 0), wanted, file, problems)
    del wanted
    categories, has_category = _categories(objects.columns.column("category"), file)
    has_category[list(objects.odd)] = False

    order = np.argsort(owners, kind="stable")
    order = order[np.count_nonzero(owners < 0) :]
    splits = np.concatenate(
        [np.zeros(1, np.int64), np.cumsum(np.bincount(owners[order], minlength=len(images)))]
    )
    places = _places(images, file.tree)
    doubtful = is_repeated | (places < 0)
    doubtful[list(images.odd)] = True
    counts = np.bincount(places[places >= 0], minlength=max(1, len(file.tree.files)))
    doubtful |= counts[places] > 1
    doubtful[owners[(owners >= 0) & ~has_category]] = True
    del owners
    check = _ImageCheck(images, objects, file, problems, has_category, is_repeated)
    for row in np.flatnonzero(doubtful).tolist():
        place = check.place(row, order[splits[row] : splits[row + 1]])
        places[row] = -1 if place is None else place
    unlisted = _unlisted(file.tree, places)
    return *_columns(images, objects, file, places, categories, order, splits), unlisted


def _columns(
    images: ImageRows,
    objects: ObjectRows,
    file: CocoFile,
    places: np.ndarray,
    categories: np.ndarray,
    order: np.ndarray,
    splits: np.ndarray,
) -> tuple[Columns, tuple[str, ...]]:
    """The result of `match`.

    Args:
      images: the images.
      objects: the objects.
      file: the annotation file.
      places: `[images]` the index of each image's file in the tree; -1 for images to leave out.
      categories: `[objects]` int32 indices in the categories of the file.
      order: the indices of the objects, image by image.
      splits: `[images + 1]` where the objects of each image begin and end in `order`.
    """
    numbers = images.columns.column("number")
    kept, prefix = places >= 0, str(file.tree.root / "x")[:-1]
    order = order[np.repeat(kept, np.diff(splits))]
    classes, names = _by_occurrence(categories[order], list(file.names.values()))
    sizes = np.stack([images.columns.pop("height"), images.columns.pop("width")], axis=1)[kept]
    sizes[~(sizes.min(axis=1) >= 1)] = np.nan  # some tools write 0
    paths = (file.tree.files[place].replace("/", os.sep) for place in places[kept].tolist())
    columns = Columns(
        image_ids=Strings.of(str(file.ids.id(number)) for number in numbers[kept].tolist()),
        paths=Strings.of(prefix + path for path in paths),
        sizes=sizes,
        spans=np.zeros((len(sizes), 2), np.int64),
        splits=np.concatenate([np.zeros(1, np.int64), np.cumsum(np.diff(splits)[kept])]),
        boxes=objects.columns.pop("box").reshape(-1, 4)[order],
        classes=classes,
        difficult=objects.columns.pop("ignored")[order],
        crowd=objects.columns.pop("crowd")[order],
        area=objects.columns.pop("area")[order],
    )
    return columns, names


def _owners(wanted: np.ndarray, numbers: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Finds the images of objects.

    Args:
      wanted: `[objects] int64` the number of the image's id.
      numbers: `[images] int64` the numbers of the images' ids.

    Returns:
      `[objects] int32` the first image with that number, -1 if there is none, and `[images] bool`:
      whether an earlier image has the same number.
    """
    order = np.argsort(numbers, kind="stable")
    ordered = numbers[order]
    is_repeated = np.zeros(len(numbers), bool)
    is_repeated[order[1:]] = (ordered[1:] == ordered[:-1]) & (ordered[1:] != NO_ID)
    owners = np.empty(len(wanted), np.int32)
    for start in range(0, len(wanted), AT_ONCE):
        own = wanted[start : start + AT_ONCE]
        found = np.minimum(np.searchsorted(ordered, own), len(ordered) - 1)
        is_known = (ordered[found] == own) & (own != NO_ID)
        owners[start : start + AT_ONCE] = np.where(is_known, order[found], -1)
    return owners, is_repeated


def _report_unknown_images(
    objects: ObjectRows, rows: np.ndarray, numbers: np.ndarray, file: CocoFile, problems: Problems
) -> None:
    """Reports objects of images that are not listed; `numbers` has each object's image id."""
    for row in rows.tolist():
        entry = objects.odd.get(row, {"image_id": file.ids.id(int(numbers[row]))})
        place = f"annotations[{row}]"
        if isinstance(entry, dict) and "image_id" in entry:
            message = f"{place} names the unknown image {shown(entry['image_id'])}"
        else:
            message = f"{place} has no image_id: {shown(entry)}"
        problems.add(file.path, place, [Problem("annotation form", message)])


def _categories(numbers: np.ndarray, file: CocoFile) -> tuple[np.ndarray, np.ndarray]:
    """The categories of objects.

    Args:
      numbers: `[objects] int64` the numbers of the category ids.
      file: the annotation file.

    Returns:
      `[objects] int32` the indices of the categories in the file, and `[objects] bool`: whether the
      object has a known category.
    """
    known = np.array([file.ids.number(category_id) for category_id in file.names], np.int64)
    if not len(known):
        return np.zeros(len(numbers), np.int32), np.zeros(len(numbers), bool)
    order = np.argsort(known)
    categories, is_known = np.empty(len(numbers), np.int32), np.empty(len(numbers), bool)
    for start in range(0, len(numbers), AT_ONCE):
        part = slice(start, start + AT_ONCE)
        found = order[np.minimum(np.searchsorted(known[order], numbers[part]), len(known) - 1)]
        categories[part], is_known[part] = found, known[found] == numbers[part]
    return categories, is_known


def _places(images: ImageRows, tree: FileTree) -> np.ndarray:
    """`[images] int64`: the index of each image's file in the tree; -1 unless one file matches."""
    places, names = tree.places, images.names
    found = np.fromiter((places.get(name, -1) for name in names), np.int64, len(names))
    for row in np.flatnonzero(found < 0).tolist():
        if row not in images.odd:
            path = _image_path({"file_name": names[row]}, tree, "", [])
            found[row] = -1 if path is None else places[path.relative_to(tree.root).as_posix()]
    return found


class _ImageCheck:
    """Checks images that may be damaged, in their order."""

    def __init__(
        self,
        images: ImageRows,
        objects: ObjectRows,
        file: CocoFile,
        problems: Problems,
        has_category: np.ndarray,
        is_repeated: np.ndarray,
    ):
        """Stores the rows, `has_category` `[objects] bool` and `is_repeated` `[images] bool`."""
        self._images = images
        self._names = images.names
        self._numbers = images.columns.column("number")
        self._objects = objects
        self._categories = objects.columns.column("category")
        self._file = file
        self._problems = problems
        self._has_category = has_category
        self._is_repeated = is_repeated
        self._known: dict[Path, Id] = {}

    def place(self, row: int, objects: np.ndarray) -> int | None:
        """The index of an image's file in the tree; None, and a problem, for a damaged image.

        Args:
          row: the row of the image.
          objects: the rows of its objects.
        """
        file, number = self._file, int(self._numbers[row])
        image_id = file.ids.id(number)
        image = self._images.odd.get(row, {"id": image_id, "file_name": self._names[row]})
        if number == NO_ID or self._is_repeated[row]:
            place = f"images[{row}]"
            if number == NO_ID:
                problem = Problem("annotation form", f"{place} has no id: {shown(image)}")
            else:
                problem = Problem("listed twice", f"{place} has the id {shown(image['id'])} again")
            self._problems.add(file.path, place, [problem])
            return None
        found: list[Problem] = []
        place = f"the image {shown(image_id)}"
        path = _image_path(image, file.tree, place, found)
        size_of(image, place, found)
        for entry in self._incomplete(objects):
            _check_object(entry, place, file.names, found)
        if path and not found and self._known.setdefault(path, image_id) != image_id:
            message = f"the images {shown(self._known[path])} and {shown(image_id)} are both "
            found.append(Problem("listed twice", message + shown(image.get("file_name"))))
        if found:
            self._problems.add(file.path, str(image_id), found)
        if found or path is None:
            return None
        return file.tree.places[path.relative_to(file.tree.root).as_posix()]

    def _incomplete(self, rows: np.ndarray) -> Iterator[dict]:
        """The entries of incomplete objects."""
        for row in rows[~self._has_category[rows]].tolist():
            category_id = self._file.ids.id(int(self._categories[row]))
            yield self._objects.odd.get(row, {"category_id": category_id, "bbox": [0, 0, 0, 0]})


def _unlisted(tree: FileTree, places: np.ndarray) -> str:
    """Describes the images of a folder that are not in a file; "" if all are in it."""
    is_listed = np.zeros(len(tree.files), bool)
    is_listed[places[places >= 0]] = True
    if is_listed.all():
        return ""
    without = [image for image in tree.images if not is_listed[tree.places[image]]]
    count = counted(len(without), "image")
    return f"{count} that it does not list: {first_names(without)}" if without else ""


def _by_occurrence(categories: np.ndarray, names: list[str]) -> tuple[np.ndarray, tuple[str, ...]]:
    """Numbers classes by first occurrence; categories with the same name are one class.

    Args:
      categories: `[objects]` int32 indices in `names`.
      names: the names of the categories.

    Returns:
      `[objects]` int32 indices in the names that occur, and these names.
    """
    first = np.full(len(names), len(categories))
    np.minimum.at(first, categories, np.arange(len(categories)))
    known: dict[str, int] = {}
    by_category = np.zeros(len(names), np.int32)
    for category in np.argsort(first, kind="stable").tolist():
        if first[category] < len(categories):
            by_category[category] = known.setdefault(names[category], len(known))
    return by_category[categories], tuple(known)


def _image_path(image: dict, tree: FileTree, place: str, found: list[Problem]) -> Path | None:
    """The file of an image; None, and a problem in `found`, if it does not exist."""
    name = name_of(image)
    if name is None:
        found.append(Problem("file name", f"{place} has no file_name"))
        return None
    path = tree.image(name)
    if isinstance(path, Problem):
        without_suffix = Path(name).suffix.lower() not in IMAGE_SUFFIXES
        by_stem = tree.image_of_stem(name) if without_suffix else path
        if isinstance(by_stem, Problem):
            found.append(Problem(path.kind, f"{place}: {path.message}"))
            return None
        return by_stem
    return path


def _check_object(entry: dict, place: str, names: dict[int, str], found: list[Problem]) -> None:
    """Adds the problems of an object to `found`."""
    category_id = identity(entry.get("category_id"))
    name = names.get(category_id) if isinstance(category_id, int) else None
    if name is None:
        stated = shown(entry.get("category_id"))
        message = f"{place}: an annotation names the unknown category {stated}"
        found.append(Problem("class number", message))
    if box_of_entry(entry) is None:
        message = f"{place}: a bbox is {shown(entry.get('bbox'))}, but must be x, y, width and "
        found.append(Problem("box", f"{message}height: four numbers of at most {MAX_PIXEL:,.0f}"))
    area, crowd = area_of(entry.get("area")), flag(entry.get("iscrowd"))
    ignored = flag(entry.get("ignore"))
    for key, value in (("area", area), ("iscrowd", crowd), ("ignore", ignored)):
        if value is None:
            message = f"{place}: {key} is {shown(entry.get(key))}, which is not a number"
            found.append(Problem("annotation form", message))
