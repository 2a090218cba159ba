"""The files of a work directory that describe its run.

A work directory has

    format.json      the version of this format
    config.json      the config of the run
    classes.json     the classes, in the order of the labels: their names, and their ids in results
    split.json       the evaluation images, if they were split from the training data
    data.json        a digest of the annotation of each image, to report changes at the next start
    starts.jsonl     each start of the run: time, place, command, code and packages
    weights.txt      the origin of each array, if the run started from weights
    imported.json    the arrays that came from a file, if its weights were imported
    data_errors.jsonl  images that config.data.on_error="skip" left out, and the reasons
    checkpoints/     one folder per saved step
    metrics.jsonl    one object per line
    tensorboard/     the same for TensorBoard, with the pictures
    loggers.json     if config.loggers names them: the run's ids at Weights & Biases and MLflow
    wandb/           files of Weights & Biases
    pictures/        training images as sent to the device; detections of the last evaluation
    report/          a page about the best checkpoint, written at the end of an evaluated run
    nonfinite/       batches whose loss or gradient was not finite, if there were any
    lock             held by the process that trains here
"""

import contextlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from ssd_jax.config.saved import FORMAT, check_format, upgrade
from ssd_jax.config.schema import Config, as_config
from ssd_jax.config.spelling import did_you_mean_path
from ssd_jax.data.class_lists import check_described, describe_classes
from ssd_jax.errors import UserError, first_names, shown
from ssd_jax.storage import locks
from ssd_jax.storage.files import (
    append_json_line,
    read_json,
    read_json_lines,
    scheme_hint,
    write_json,
)


def record_run(
    folder: Path, config: Config, class_names: Sequence[str], category_ids: Sequence[int]
) -> None:
    """Writes config and classes into a work directory, which is created if it does not exist.

    Args:
      folder: the work directory.
      config: a config of `configs/`.
      class_names: in the order of the labels.
      category_ids: the ids of the classes in results, in the same order.
    """
    folder.mkdir(parents=True, exist_ok=True)
    classes = describe_classes(class_names, category_ids)
    write_json(folder / "config.json", config.model_dump(mode="json"))
    write_json(folder / "classes.json", classes)
    # Last: this version can read configs of the format before, but not the reverse.
    write_json(folder / "format.json", {"format": FORMAT}, indent=None)


def is_recorded(folder: Path) -> bool:
    """Whether a work directory has the files of `record_run`."""
    return all((folder / f"{name}.json").is_file() for name in ("config", "classes", "format"))


def record_start(folder: Path, description: dict[str, Any]) -> None:
    """Adds a line to `starts.jsonl`."""
    append_json_line(folder / "starts.jsonl", description)


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
    """A block during which no other process trains in a work directory.

    The lock ends with the process, also if that is killed.

    Raises:
      UserError: another process trains there.
    """
    with locks.locked(folder, "work directory", _last_start):
        yield


def _last_start(folder: Path) -> str:
    starts = read_json_lines(folder / "starts.jsonl")
    last = starts[-1] if starts else {}
    if not {"process", "host", "time"} <= set(last):
        return ""
    return f" (number {last['process']} on {last['host']}, started {last['time']})"


def read_classes(folder: Path) -> list[dict[str, Any]]:
    """The `id` and `name` of each class of a run, in the order of the labels.

    Raises:
      UserError: the folder is not the work directory of a run, or of a version that this one
        cannot read.
    """
    classes = _read(folder, "classes.json")
    read_format(folder)
    if classes == [] and _has_no_heads(folder):
        return []
    return check_described(classes, folder / "classes.json")


def _has_no_heads(folder: Path) -> bool:
    """Whether a work directory has only the imported weights of a backbone."""
    names = read_json(folder / "imported.json") if (folder / "imported.json").is_file() else None
    return isinstance(names, list) and not any(str(name).startswith("heads") for name in names)


def read_format(folder: Path) -> int:
    """The format that a work directory was written in; see `read_classes`."""
    content = _read(folder, "format.json")
    if not isinstance(content, dict) or "format" not in content:
        raise UserError(
            f"{folder / 'format.json'} is damaged: it is {shown(content)}, but must be "
            f'{{"format": {FORMAT}}}'
        )
    check_format(content["format"], folder)
    return content["format"]


def read_class_names(folder: Path) -> tuple[str, ...]:
    """The class names of a run, in the order of the labels; see `read_classes`."""
    return tuple(entry["name"] for entry in read_classes(folder))


def read_config(folder: Path) -> Config:
    """The config of a run.

    Raises:
      UserError: the folder is not the work directory of a run.
    """
    number = read_format(folder)
    values, file = _read(folder, "config.json"), folder / "config.json"
    if not isinstance(values, dict):
        raise UserError(
            f"{file} is damaged: it is {shown(values)}, but must hold the fields. {_fix(file.name)}"
        )
    try:
        return as_config(upgrade(values, number))
    except UserError as error:
        raise UserError(f"{file}: {error}") from error


def flat_fields(config: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """The values of a nested config by their names, like `model.width`."""
    fields = {}
    for name, value in config.items():
        inner = isinstance(value, dict)
        fields |= flat_fields(value, f"{prefix}{name}.") if inner else {prefix + name: value}
    return fields


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


def _read(folder: Path, name: str) -> Any:
    if not (folder / name).is_file():
        raise UserError(f"{folder} is not the work directory of a run: {_why_no_run(folder, name)}")
    try:
        return read_json(folder / name)
    except UserError as error:
        raise UserError(f"{error}. {_fix(name)}") from error


def _why_no_run(folder: Path, missing: str) -> str:
    """Describes why a folder without this file is no work directory, with the fix."""
    if not folder.exists():
        near = did_you_mean_path(folder, is_recorded) or "; `ssd-jax train` makes one"
        return f"it does not exist{scheme_hint(folder) or near}"
    if (folder / "model.safetensors").is_file():
        return "it is the folder of a detector, for --weights or Detector.from_pretrained"
    if not folder.is_dir():
        return "it is a file"
    if any((folder / f"{name}.json").is_file() for name in ("config", "classes", "format")):
        return f"it has no {missing}. {_fix(missing)}"
    around = next((each for each in folder.absolute().parents if is_recorded(each)), None)
    if around is not None:
        return f"it is inside one: name {around}"
    inside = sorted(str(each) for each in folder.iterdir() if is_recorded(each))
    if inside:
        return f"it contains {'one' if len(inside) == 1 else 'some'}: name {first_names(inside)}"
    return "`ssd-jax train` wrote nothing into it; name the --workdir of a training"


def _fix(name: str) -> str:
    """The fix for a damaged file of a work directory."""
    if name == "format.json":
        return f'Put back a copy of it, or write {{"format": {FORMAT}}} into it'
    return (
        "Put back a copy of it, or remove it and start the same training again, which writes it "
        "again, even if it has nothing left to train"
    )
