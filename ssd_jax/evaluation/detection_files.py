"""Detections in files, in the forms that the servers of Pascal VOC and COCO take.

Pascal VOC: a folder with `comp4_det_test_CLASS.txt` for each class, whose lines are
`image_id score x_min y_min x_max y_max`. COCO: a JSON list of objects with `image_id`,
`category_id`, `bbox` (x, y, width, height) and `score`. Boxes are in pixels of the image.
"""

import json
import math
import os
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ssd_jax.errors import UserError, shown
from ssd_jax.evaluation.results import ImageResult
from ssd_jax.storage.files import write_json, write_text

LONGEST_NAME = 200  # bytes of a class, as part of a file's name; file systems take 255 in all


class _Detection(NamedTuple):
    image_id: str
    label: int
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
        if len(result.image_id.split()) != 1:
            raise UserError(
                f"the image {shown(result.image_id)} cannot stand in a line of VOC's form, where "
                "a space ends the name: rename it"
            )
    folder.mkdir(parents=True, exist_ok=True)
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
    for name, of_class in zip(class_names, lines, strict=True):
        write_text(folder / f"comp4_det_test_{name}.txt", "".join(of_class))
    write_json(folder / "detections.json", entries, indent=None)


def read_detections(
    path: Path,
    images: Sequence[ImageResult],
    class_names: Sequence[str],
    category_ids: Sequence[int],
    left_out: Collection[str] = (),
) -> list[ImageResult]:
    """The images with the detections of a file.

    Args:
      path: a JSON file in COCO's form, or a folder of files in VOC's. A class that has no file
        there has no detections.
      images: all images that were looked at.
      class_names: class i + 1 is called `class_names[i]`.
      category_ids: what COCO's form calls the classes.
      left_out: images that the file may name too; their detections are dropped.

    Raises:
      UserError: the path does not exist, a line or an entry cannot be understood, or names an
        image or a class that is not among those given.
    """
    if path.is_dir():
        detections = _read_voc(path, class_names)
    elif path.is_file():
        detections = _read_coco(path, category_ids)
    else:
        raise UserError(f"{path} does not exist: name a JSON file in COCO's form, or a folder")
    of_image = {image.image_id: [] for image in images}
    if len(of_image) < len(images):
        raise UserError("two images of the evaluation data have the same name: rename one")
    for place, detection in detections:
        if detection.image_id in left_out:
            continue
        if detection.image_id not in of_image:
            raise UserError(
                f"{place}: the image {shown(detection.image_id)} is not in the evaluation data, "
                f"whose {len(images)} images begin with {images[0].image_id!r}"
            )
        if not all(map(math.isfinite, (detection.score, *detection.box))):
            raise UserError(f"{place}: the score or a corner of the box is not a finite number")
        x_min, y_min, x_max, y_max = detection.box
        if x_max < x_min or y_max < y_min:
            raise UserError(f"{place}: the box {detection.box} ends before it begins")
        of_image[detection.image_id].append(detection)
    return [_with_detections(image, of_image[image.image_id]) for image in images]


def _with_detections(image: ImageResult, detections: list[_Detection]) -> ImageResult:
    best_first = sorted(detections, key=lambda detection: -detection.score)
    return image._replace(
        boxes=np.array([d.box for d in best_first], np.float64).reshape(-1, 4),
        scores=np.array([d.score for d in best_first], np.float64),
        labels=np.array([d.label for d in best_first], np.int32),
    )


def _read_voc(folder: Path, class_names: Sequence[str]) -> Iterator[tuple[str, _Detection]]:
    found = False
    for path in sorted(folder.glob("*.txt")):
        # The longest name, for one may end like another: "bus" and "mini_bus".
        names = [name for name in class_names if path.name.endswith(f"_{name}.txt")]
        if not names:
            raise UserError(
                f"{path} ends in none of the classes, {', '.join(class_names)}: a file of "
                "detections is called like comp4_det_test_CLASS.txt"
            )
        found, label = True, class_names.index(max(names, key=len)) + 1
        for number, line in enumerate(_read_text(path).splitlines(), start=1):
            if not line.strip():
                continue
            place = f"{path}, line {number}"
            try:
                image_id, *numbers = line.split()
                score, x_min, y_min, x_max, y_max = map(float, numbers)
            except ValueError as error:
                raise UserError(
                    f"{place} is {shown(line.strip())}, but must be: "
                    "image_id score xmin ymin xmax ymax"
                ) from error
            yield place, _Detection(image_id, label, score, (x_min, y_min, x_max, y_max))
    if not found:
        raise UserError(f"{folder} holds no files like comp4_det_test_CLASS.txt")


def _read_coco(path: Path, category_ids: Sequence[int]) -> Iterator[tuple[str, _Detection]]:
    try:
        entries = json.loads(_read_text(path))
    except (ValueError, RecursionError) as error:
        if isinstance(error, UserError):
            raise
        raise UserError(f"{path} is not JSON: {error}") from error
    if not isinstance(entries, list):
        raise UserError(f"{path} must hold a list of detections, as COCO's results do")
    label_of = {category_id: label for label, category_id in enumerate(category_ids, start=1)}
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
        if not isinstance(category_id, int) or category_id not in label_of:
            known = ", ".join(map(str, category_ids))
            raise UserError(
                f"{place}: category_id is {shown(category_id)}, but must be one of {known}"
            )
        corners = (x, y, x + width, y + height)
        yield place, _Detection(image_id, label_of[category_id], score, corners)


def _read_text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path} is not a text file in UTF-8: {error}") from error


def _coco_id(image_id: str) -> int | str:
    """A number where the name is one, as in COCO; "000012" of VOC stays a name."""
    # No image of COCO has so many digits, and Python refuses numbers of thousands.
    is_number = image_id.isascii() and image_id.isdigit() and len(image_id) < 20
    return int(image_id) if is_number and str(int(image_id)) == image_id else image_id
