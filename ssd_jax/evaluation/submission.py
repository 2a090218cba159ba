"""Writes detections for the servers of Pascal VOC and COCO: see `detection_files.py`."""

import os
from collections.abc import Sequence
from pathlib import Path

from ssd_jax.errors import UserError, shown
from ssd_jax.evaluation.results import ImageResult
from ssd_jax.storage.files import write_json, write_text
from ssd_jax.storage.replacing import replacing_files

LONGEST_NAME = 200  # bytes of a class in a file name; file systems allow 255 for the whole name


def write_detections(
    results: Sequence[ImageResult],
    class_names: Sequence[str],
    category_ids: Sequence[int],
    folder: Path,
) -> None:
    """Writes `comp4_det_test_CLASS.txt` for every class, and `detections.json` in COCO's format.

    Args:
      results: the images.
      class_names: class i + 1 is called `class_names[i]`.
      category_ids: the ids of the classes in COCO's format.
      folder: created if it does not exist.

    Raises:
      UserError: a class cannot be part of a file name, or an image id not part of a line.
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
                f"the image {shown(name)} cannot be written in a line of VOC's format: rename it, "
                "in UTF-8, without line breaks, and without blanks at its ends"
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


def _coco_id(image_id: str) -> int | str:
    """The image id as a number if it is one, as in COCO; "000012" of VOC stays a string."""
    # COCO's ids have fewer digits, and Python refuses numbers with thousands of digits.
    is_number = image_id.isascii() and image_id.isdigit() and len(image_id) < 20
    return int(image_id) if is_number and str(int(image_id)) == image_id else image_id
