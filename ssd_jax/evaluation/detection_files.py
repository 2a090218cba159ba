"""Reads detections from files, in the formats of the Pascal VOC and COCO evaluation servers.

Pascal VOC: a folder with `comp4_det_test_CLASS.txt` for each class, whose lines are
`image_id score x_min y_min x_max y_max`; the name may contain blanks. COCO: a JSON list of objects
with `image_id`, `category_id`, `bbox` (x, y, width, height) and `score`; or an object of `ssd-jax
predict`: `annotations` are such a list, and `images` and `categories` have the names of files and
classes. Boxes are in pixels of the image.
"""

import collections
import json
import logging
import math
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ssd_jax.data.classes import Classes
from ssd_jax.data.discovery import EVAL_NAMES, TRAIN_NAMES
from ssd_jax.errors import UserError, counted, first_names, shown
from ssd_jax.evaluation.known_images import KnownImages
from ssd_jax.evaluation.results import ImageResult
from ssd_jax.storage.files import read_text

logger = logging.getLogger(__name__)


_Category = tuple[int, str]  # label, 0 if the data does not have the class; name, "" if unknown


class _Detection(NamedTuple):
    image_id: str  # the name in the file
    label: int  # 0 if the data does not have the class
    class_name: str  # for messages
    score: float
    box: tuple[float, ...]  # xyxy in pixels


def read_detections(
    path: Path,
    images: Sequence[ImageResult],
    class_names: Sequence[str],
    category_ids: Sequence[int],
    left_out: Collection[str] = (),
    class_map: Mapping[str, str] | None = None,
    merged_ids: Mapping[int, int] | None = None,
    paths: Mapping[str, str] | None = None,
) -> list[ImageResult]:
    """The images with the detections of a file.

    Detections of other classes are left out, with a warning. So are detections in other images, if
    the file names at least half of the given images. A warning also counts given images that the
    file does not name, because the file may be incomplete.

    Args:
      path: a JSON file in COCO's format, or a folder of files in VOC's format. A class without a
        file in the folder has no detections.
      images: all evaluated images. The file may name them with the suffix of an image file.
      class_names: class i + 1 is called `class_names[i]`.
      category_ids: the ids of the classes in COCO's format.
      left_out: images that the file may name too; their detections are dropped.
      class_map: the names of classes by those that files use; "" leaves their detections out.
      merged_ids: labels by further ids in COCO's format.
      paths: the image files by image id; images inside larger files have none.

    Raises:
      UserError: the path does not exist, a line or an entry cannot be parsed, or all detections
        are of other classes or in other images.
    """
    classes = Classes(tuple(class_names), class_map or {})
    of_image = {image.image_id: [] for image in images}
    if len(of_image) < len(images):
        raise UserError("two images of the evaluation data have the same name: rename one")
    known = KnownImages((*of_image, *left_out), len(images), paths or {})
    by_id = {**(merged_ids or {}), **{each: i for i, each in enumerate(category_ids, start=1)}}
    detections, listed = _read(path, classes, by_id, known)
    foreign, named = collections.Counter(), set()
    for place, detection in detections:
        _check_numbers(detection, place)
        image_id = known.find(detection.image_id, place)
        if not image_id:
            continue
        named.add(image_id)
        if not detection.label:
            foreign[detection.class_name] += 1
        elif image_id in of_image:
            of_image[image_id].append(detection)
    if listed is None:
        known.leave_out_unknown(path, named)
    if foreign:
        pairs = zip(class_names, category_ids, strict=True)
        known_classes = [f"{name} ({number})" for name, number in pairs]
        _warn_of_other_classes(path, foreign, known_classes, any(of_image.values()))
    _warn_of_missing_images(path, [*of_image], named, listed)
    return [_with_detections(image, of_image[image.image_id]) for image in images]


def _read(
    path: Path, classes: Classes, label_of: Mapping[int, int], known: KnownImages
) -> tuple[Iterator[tuple[str, _Detection]], Collection[str] | None]:
    """The detections of a file or folder, and the images that it lists; None without a list.

    Args:
      path: see `read_detections`.
      classes: by their names.
      label_of: the labels by ids in COCO's format.
      known: the images.
    """
    if path.is_dir():
        return _read_voc(path, classes), None
    if not path.is_file():
        raise UserError(f"{path} does not exist: name a JSON file in COCO's form, or a folder")
    content = _read_json(path)
    if isinstance(content, list):
        return _read_coco(path, content, {each: (label_of[each], "") for each in label_of}), None
    listed = _listed_images(path, content["images"], known)
    found = set(listed.values()) - {""}
    known.leave_out_unknown(path, found)
    category_of = _named_categories(path, content["categories"], classes)
    return _read_coco(path, content["annotations"], category_of, listed), found


def _check_numbers(detection: _Detection, place: str) -> None:
    if not all(map(math.isfinite, (detection.score, *detection.box))):
        raise UserError(f"{place}: the score or a corner of the box is not a finite number")
    x_min, y_min, x_max, y_max = detection.box
    if x_max < x_min or y_max < y_min:
        raise UserError(f"{place}: the box {detection.box} ends before it begins")


def _warn_of_other_classes(
    path: Path, foreign: collections.Counter[str], known: Sequence[str], are_others: bool
) -> None:
    """Warns of detections of other classes; raises a `UserError` unless `are_others` is true."""
    listed = first_names([f"{name} ({count})" for name, count in foreign.most_common()], 20)
    count = counted(foreign.total(), "detection")
    if not are_others:
        raise UserError(
            f"{path}: {count}, all of classes that the evaluation data does not have, {listed}: "
            f"its classes (and category ids) are {first_names(known, 20)}"
        )
    logger.warning(
        "%s: left out %s of classes that the evaluation data does not have: %s",
        *(path, count, listed),
    )


def _warn_of_missing_images(
    path: Path, image_ids: Sequence[str], named: Collection[str], listed: Collection[str] | None
) -> None:
    """Warns of images without a detection; if the file lists its images, of unlisted images."""
    missing = [each for each in image_ids if each not in (named if listed is None else listed)]
    if missing:
        has = "have no detection in it" if listed is None else "are not among those that it lists"
        logger.warning(
            "%s: %d of the %s of the evaluation data %s, the first is %s; their objects count as "
            "not found. If the file covers only a part of the images, name that part: with "
            "--source, or with --workdir the run that split the data",
            *(path, len(missing), counted(len(image_ids), "image"), has, shown(missing[0])),
        )


def _with_detections(image: ImageResult, detections: list[_Detection]) -> ImageResult:
    best_first = sorted(detections, key=lambda detection: -detection.score)
    return image._replace(
        boxes=np.array([d.box for d in best_first], np.float64).reshape(-1, 4),
        scores=np.array([d.score for d in best_first], np.float64),
        labels=np.array([d.label for d in best_first], np.int32),
    )


def _read_voc(folder: Path, classes: Classes) -> Iterator[tuple[str, _Detection]]:
    paths = sorted(folder.glob("*.txt"))
    if not paths:
        raise UserError(f"{folder} has no files like comp4_det_test_CLASS.txt")
    for path in paths:
        class_name = _class_of_file(path, classes)
        label = classes.label(class_name)
        # Not str.splitlines, which also splits at characters that names may contain.
        lines = re.split(r"\r\n|\n|\r", read_text(path))
        for number, line in enumerate(lines, start=1):
            if not line.strip():
                continue
            place = f"{path}, line {number}"
            try:
                image_id, *numbers = line.strip().rsplit(maxsplit=5)
                score, x_min, y_min, x_max, y_max = map(float, numbers)
            except ValueError as error:
                raise UserError(
                    f"{place} is {shown(line.strip())}, but must be: "
                    "image_id score xmin ymin xmax ymax"
                ) from error
            box = (x_min, y_min, x_max, y_max)
            yield place, _Detection(image_id, label, class_name, score, box)


def _class_of_file(path: Path, classes: Classes) -> str:
    """The class at the end of a file name like comp4_det_test_CLASS.txt; it may be unknown.

    Raises:
      UserError: the name is a misspelling of a class.
    """
    known = (*classes.names, *classes.renamed)
    form = re.fullmatch(
        rf"(?:comp\d+_)?det_(?:{'|'.join(TRAIN_NAMES + EVAL_NAMES)})_(.+)", path.stem
    )
    # The longest one, because one class may end with another: "mini_bus" and "bus".
    endings = [each for each in known if f"_{path.stem}".endswith(f"_{each}")]
    name = form[1] if form else max(endings, key=len, default=path.stem.rpartition("_")[2])
    if name in known:
        return name
    meant = classes.misspelt(name)
    if meant:
        raise UserError(
            f"{path}: the class {shown(name)} is not among {', '.join(classes.names)}: "
            f"name the file ..._{meant}.txt if it is {meant!r}, or take it out of the folder"
        )
    return name


def _read_json(path: Path) -> list[Any] | dict[str, list[Any]]:
    """A list of detections, or an object with `images`, `annotations` and `categories`."""
    try:
        content = json.loads(read_text(path))
    except (ValueError, RecursionError) as error:
        if isinstance(error, UserError):
            raise
        raise UserError(f"{path} is not JSON: {error}") from error
    is_object = isinstance(content, dict) and all(
        isinstance(content.get(key), list) for key in ("images", "annotations", "categories")
    )
    if not is_object and not isinstance(content, list):
        raise UserError(
            f"{path} must hold a list of detections, as COCO's results do, or an object with the "
            "lists images, annotations and categories, as ssd-jax predict writes it"
        )
    return content


def _listed_images(path: Path, entries: list[Any], known: KnownImages) -> dict[str, str]:
    """The images of the evaluation data by their ids in the file; "" for another image."""
    listed: dict[str, str] = {}
    files: dict[str, str] = {}
    for number, entry in enumerate(entries, start=1):
        place = f"{path}, image {number}"
        try:
            own_id, name = str(entry["id"]), entry["file_name"]
        except (KeyError, TypeError) as error:
            raise UserError(f"{place} needs id and file_name") from error
        if not isinstance(name, str):
            raise UserError(f"{place}: file_name is {shown(name)}, but must be text")
        image_id = known.find_file(name, place)
        if own_id in listed or (image_id and image_id in files):
            other = files.get(image_id, "another image")
            raise UserError(
                f"{place}: {shown(name)} has the id or the file of {shown(other)}: keep one"
            )
        listed[own_id], files[image_id] = image_id, name
    return listed


def _named_categories(path: Path, entries: list[Any], classes: Classes) -> dict[int, _Category]:
    """Label and name of the categories that a file lists, by their ids."""
    categories = {}
    for number, entry in enumerate(entries, start=1):
        try:
            own_id, name = entry["id"], entry["name"]
        except (KeyError, TypeError) as error:
            raise UserError(f"{path}, category {number} needs id and name") from error
        if not isinstance(own_id, int) or not isinstance(name, str):
            raise UserError(
                f"{path}, category {number} is {shown(entry)}, but its id must be a whole number "
                "and its name text"
            )
        categories[own_id] = (classes.label(name), name)
    return categories


def _read_coco(
    path: Path,
    entries: list[Any],
    category_of: Mapping[int, _Category],
    listed: Mapping[str, str] | None = None,
) -> Iterator[tuple[str, _Detection]]:
    """The detections of a list.

    Args:
      path: the file, for messages.
      entries: the list.
      category_of: label and name by category id.
      listed: image ids of the data by those of the file, "" for an image of other data; None if
        both are equal.
    """
    for number, entry in enumerate(entries, start=1):
        place = f"{path}, entry {number}"
        try:
            image_id, category_id = str(entry["image_id"]), entry["category_id"]
            x, y, width, height = map(float, entry["bbox"])
            score = float(entry["score"])
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            raise UserError(
                f"{place} needs image_id, category_id, score, and bbox of x, y, width and height "
                f"({type(error).__name__}: {str(error)[:80]})"
            ) from error
        if not isinstance(category_id, int):
            known = ", ".join(map(str, category_of))
            raise UserError(
                f"{place}: category_id is {shown(category_id)}, but must be one of {known}"
            )
        if listed is not None:
            if image_id not in listed:
                raise UserError(f"{place}: image_id {shown(image_id)} is not among its images")
            image_id = listed[image_id]
            if not image_id:
                continue
        corners = (x, y, x + width, y + height)
        label, class_name = category_of.get(category_id, (0, ""))
        class_name = class_name or f"category_id {category_id}"
        yield place, _Detection(image_id, label, class_name, score, corners)
