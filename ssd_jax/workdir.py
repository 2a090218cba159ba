"""What a work directory says about its run.

A work directory holds

    format.json      the version of this form
    config.json      the config of the run
    classes.json     the classes, in the order of the labels: their names, and their ids in results
    weights.txt      what became of each array of the weights that the run started from, if any
    imported.json    if its weights came from a file: which arrays did
    data_errors.jsonl  what config.data.on_error="skip" left out and why, a picture a line
    checkpoints/     one folder a saved step
    metrics.jsonl    one object a line
    tensorboard/     the same for TensorBoard, with the pictures
    pictures/        training images as they go to the device; detections of the last evaluation
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from ssd_jax.errors import UserError

FORMAT = 1  # to be raised when older programs can no longer read what newer ones write


def record_run(
    folder: Path, config: Any, class_names: Sequence[str], category_ids: Sequence[int]
) -> None:
    """Writes config and classes into a work directory, made where it does not exist.

    Args:
      folder: the work directory.
      config: a config of `configs/`.
      class_names: in the order of the labels.
      category_ids: what results call the classes, in the same order.
    """
    folder.mkdir(parents=True, exist_ok=True)
    classes = describe_classes(class_names, category_ids)
    (folder / "classes.json").write_text(json.dumps(classes, indent=2) + "\n")
    (folder / "config.json").write_text(config.to_json_best_effort(indent=2) + "\n")
    (folder / "format.json").write_text(json.dumps({"format": FORMAT}) + "\n")


def describe_classes(
    class_names: Sequence[str], category_ids: Sequence[int]
) -> list[dict[str, Any]]:
    """The `id` and `name` of each class, as files hold them."""
    return [
        {"id": category_id, "name": name}
        for category_id, name in zip(category_ids, class_names, strict=True)
    ]


def check_format(number: int, folder: Path) -> None:
    """Raises a `UserError` if a folder was written in a form that this version cannot read."""
    if number != FORMAT:
        age = "a later" if number > FORMAT else "an unknown"
        raise UserError(
            f"{folder} has the format {number}, of {age} version of ssd_jax; this one reads "
            f"{FORMAT}: install the version that wrote it"
        )


def read_classes(folder: Path) -> list[dict[str, Any]]:
    """The `id` and `name` of each class of a run, in the order of the labels.

    Raises:
      UserError: the folder is not the work directory of a run, or of a version that this one
        cannot read.
    """
    classes = json.loads(_read(folder, "classes.json"))
    check_format(json.loads(_read(folder, "format.json"))["format"], folder)
    return classes


def read_class_names(folder: Path) -> tuple[str, ...]:
    """The class names of a run, in the order of the labels; see `read_classes`."""
    return tuple(entry["name"] for entry in read_classes(folder))


def read_config(folder: Path) -> ConfigDict:
    """The config of a run.

    Raises:
      UserError: the folder is not the work directory of a run.
    """
    return ConfigDict(json.loads(_read(folder, "config.json")))


def check_classes(folder: Path, class_names: Sequence[str]) -> None:
    """Raises a `UserError` if a work directory belongs to a run with other classes."""
    if not (folder / "classes.json").is_file():
        return
    recorded = read_class_names(folder)
    if recorded != tuple(class_names):
        raise UserError(
            f"{folder} holds a run with the classes {', '.join(recorded)}, but the data has "
            f"{', '.join(class_names)}: name another work directory"
        )


def _read(folder: Path, name: str) -> str:
    if not (folder / name).is_file():
        raise UserError(f"{folder} is not the work directory of a run: it has no {name}")
    return (folder / name).read_text()
