"""Detections in files, in the forms that the servers of Pascal VOC and COCO take.

Pascal VOC: a folder with `comp4_det_test_CLASS.txt` for each class, whose lines are
`image_id score x_min y_min x_max y_max`; the name may hold blanks. COCO: a JSON list of objects
with `image_id`, `category_id`, `bbox` (x, y, width, height) and `score`. Boxes are in pixels of the
image.
"""

import collections
import json
import logging
import math
import os
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ssd_jax.data.classes import Classes
from ssd_jax.data.discovery import EVAL_NAMES, TRAIN_NAMES
from ssd_jax.data.file_tree import IMAGE_SUFFIXES
from ssd_jax.errors import UserError, counted, first_names, shown
from ssd_jax.evaluation.results import ImageResult
from ssd_jax.storage.files import read_text, write_json, write_text
from ssd_jax.storage.replacing import replacing_files

logger = logging.getLogger(__name__)

LONGEST_NAME = 200  # bytes of a class, as part of a file's name; file systems take 255 in all


class _Detection(NamedTuple):
    image_id: str
    label: int  # 0 where the class is not among those of the data
    class_name: str  # for messages
    score: float
    box: tuple[float, ...]  # xyxy in pixels


def write_detections(
    results: Sequence[ImageResult],
    class_names: Sequence[str],
    category_ids: Sequence[int],
    folder: Path,
) -> None:
    """Writes `comp4_det_test_CLASS.txt` for every class, and `detections.json` in COCO's form.

    Args:
      results: the images.
      class_names: class i + 1 is called `class_names[i]`.
      category_ids: what COCO's form calls the classes.
      folder: made where it does not exist.

    Raises:
      UserError: a class cannot be part of a file's name, or an image's name of a line.
    """
    for name in class_names:
        if set(name) & set("/\\\0") or len(os.fsencode(name)) > LONGEST_NAME:
            raise UserError(
                f"the class {shown(name)} cannot be part of a file's name: rename it, without / "
                f"and \\ and with at most {LONGEST_NAME} bytes"
            )
    for result in results:
        name = result.image_id
        is_text = name == name.encode(errors="replace").decode()
        if not is_text or not name or name != name.strip() or len(name.splitlines()) > 1:
            raise UserError(
                f"the image {shown(name)} cannot stand in a line of VOC's form: rename it, in "
                "UTF-8, without line breaks, and without blanks at its ends"
            )
    lines, entries = [[] for _ in class_names], []
    for result in results:
        for box, score, label in zip(
            result.boxes.tolist(), result.scores.tolist(), result.labels.tolist(), strict=True
        ):
            corners = " ".join(f"{corner:.3f}" for corner in box)
            lines[label - 1].append(f"{result.image_id} {score:.9g} {corners}\n")
            x_min, y_min, x_max, y_max = box
            extent = (x_min, y_min, x_max - x_min, y_max - y_min)
            entries.append(
                {
                    "image_id": _coco_id(result.image_id),
                    "category_id": category_ids[label - 1],
                    "bbox": [round(number, 3) for number in extent],
                    "score": float(f"{score:.9g}"),
                }
            )
    with replacing_files(folder, last="detections.json") as unfinished:
        for name, of_class in zip(class_names, lines, strict=True):
            write_text(unfinished / f"comp4_det_test_{name}.txt", "".join(of_class))
        write_json(unfinished / "detections.json", entries, indent=None)


def read_detections(
    path: Path,
    images: Sequence[ImageResult],
    class_names: Sequence[str],
    category_ids: Sequence[int],
    left_out: Collection[str] = (),
    class_map: Mapping[str, str] | None = None,
    merged_ids: Mapping[int, int] | None = None,
) -> list[ImageResult]:
    """The images with the detections of a file.

    Detections of other classes than these are left out and counted in a warning.

    Args:
      path: a JSON file in COCO's form, or a folder of files in VOC's. A class that has no file
        there has no detections.
      images: all images that were looked at. A file may name them with the suffix of an image.
      class_names: class i + 1 is called `class_names[i]`.
      category_ids: what COCO's form calls the classes.
      left_out: images that the file may name too; their detections are dropped.
      class_map: names of VOC's files by the names of classes; "" leaves their detections out.
      merged_ids: labels by further ids of COCO's form.

    Raises:
      UserError: the path does not exist, a line or an entry cannot be understood or names an image
        that is not among those given, or all detections are of other classes.
    """
    classes = Classes(tuple(class_names), class_map or {})
    if path.is_dir():
        detections = _read_voc(path, classes)
    elif path.is_file():
        by_id = {number: label for label, number in enumerate(category_ids, start=1)}
        detections = _read_coco(path, {**(merged_ids or {}), **by_id})
    else:
        raise UserError(f"{path} does not exist: name a JSON file in COCO's form, or a folder")
    of_image = {image.image_id: [] for image in images}
    if len(of_image) < len(images):
        raise UserError("two images of the evaluation data have the same name: rename one")
    foreign = collections.Counter()
    for place, detection in detections:
        image_id = _known_image(detection.image_id, of_image, left_out)
        if not image_id:
            first = repr(images[0].image_id) if images else "none"
            raise UserError(
                f"{place}: the image {shown(detection.image_id)} is not in the evaluation data, "
                f"which has {counted(len(images), 'image')}; the first is {first}"
            )
        _check_numbers(detection, place)
        if not detection.label:
            foreign[detection.class_name] += 1
        elif image_id in of_image:
            of_image[image_id].append(detection)
    if foreign:
        pairs = zip(class_names, category_ids, strict=True)
        known = [f"{name} ({number})" for name, number in pairs]
        _tell_foreign(path, foreign, known, any(of_image.values()))
    return [_with_detections(image, of_image[image.image_id]) for image in images]


def _check_numbers(detection: _Detection, place: str) -> None:
    if not all(map(math.isfinite, (detection.score, *detection.box))):
        raise UserError(f"{place}: the score or a corner of the box is not a finite number")
    x_min, y_min, x_max, y_max = detection.box
    if x_max < x_min or y_max < y_min:
        raise UserError(f"{place}: the box {detection.box} ends before it begins")


def _known_image(name: str, *known: Collection[str]) -> str:
    """The name under which an image is known, with or without a suffix; "" where it is not."""
    stem, dot, suffix = name.rpartition(".")
    names = (name, stem) if f"{dot}{suffix.lower()}" in IMAGE_SUFFIXES else (name,)
    return next((each for each in names if any(each in images for images in known)), "")


def _tell_foreign(
    path: Path, foreign: collections.Counter[str], known: Sequence[str], are_others: bool
) -> None:
    """Warns of detections of other classes, by class; refuses where there `are_others` not."""
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
        raise UserError(f"{folder} holds no files like comp4_det_test_CLASS.txt")
    for path in paths:
        class_name = _class_of_file(path, classes)
        label = classes.label(class_name)
        # Not str.splitlines: a name may hold other signs that it takes for ends of lines.
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
    """The class that the name of a file ends with, as comp4_det_test_CLASS.txt; maybe a foreign.

    Raises:
      UserError: the name is a misspelling of a class.
    """
    known = (*classes.names, *classes.renamed)
    form = re.fullmatch(
        rf"(?:comp\d+_)?det_(?:{'|'.join(TRAIN_NAMES + EVAL_NAMES)})_(.+)", path.stem
    )
    # The longest, for one class may end like another: "bus" and "mini_bus".
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


def _read_coco(path: Path, label_of: Mapping[int, int]) -> Iterator[tuple[str, _Detection]]:
    """The detections of a file; `label_of` has the labels of category ids."""
    try:
        entries = json.loads(read_text(path))
    except (ValueError, RecursionError) as error:
        if isinstance(error, UserError):
            raise
        raise UserError(f"{path} is not JSON: {error}") from error
    if not isinstance(entries, list):
        raise UserError(f"{path} must hold a list of detections, as COCO's results do")
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
            known = ", ".join(map(str, label_of))
            raise UserError(
                f"{place}: category_id is {shown(category_id)}, but must be one of {known}"
            )
        corners = (x, y, x + width, y + height)
        label, class_name = label_of.get(category_id, 0), f"category_id {category_id}"
        yield place, _Detection(image_id, label, class_name, score, corners)


def _coco_id(image_id: str) -> int | str:
    """A number where the name is one, as in COCO; "000012" of VOC stays a name."""
    # No image of COCO has so many digits, and Python refuses numbers of thousands.
    is_number = image_id.isascii() and image_id.isdigit() and len(image_id) < 20
    return int(image_id) if is_number and str(int(image_id)) == image_id else image_id
