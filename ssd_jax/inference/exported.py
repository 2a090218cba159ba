"""Opens exported files of detectors, and checks their metadata.

Such a file is complete: it has the network, suppression, and as metadata the classes, the side of
the images and the threshold.
"""

import json
import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ssd_jax.data.class_lists import check_described
from ssd_jax.errors import UserError, as_named, reason_of, shown
from ssd_jax.inference.engine import Description, Found
from ssd_jax.storage.checksums import CHECKSUMS_FILE, DamageError, verify_checksums
from ssd_jax.storage.clouds import is_remote
from ssd_jax.storage.copies import local_copy, top_level
from ssd_jax.storage.files import read_bytes, scheme_hint

KEYS = ("classes", "image_size", "score_threshold")  # the required metadata


class Exported(NamedTuple):
    """A file with a detector.

    Attributes:
      kind: `onnx` or `tflite`.
      content: its bytes.
      name: its name in messages.
    """

    kind: str
    content: bytes
    name: str


class Images(NamedTuple):
    """An input of a network.

    Attributes:
      kind: its type in the notation of the engine, like `tensor(uint8)`.
      shape: its shape; axes of any size have another value than an integer.
    """

    kind: str
    shape: Sequence[object]


def read_exported(place: str | Path, kind: str) -> Exported:
    """Reads an exported file, and checks its checksum.

    Args:
      place: the file, or its folder.
      kind: the kind of the file, equal to its suffix.

    Raises:
      UserError: the file does not exist, cannot be read, or is damaged.
    """
    path, file_name = _copy(str(place), kind), f"detector.{kind}"
    file = path / file_name if path.is_dir() else path
    if path.is_dir() and not file.exists():
        raise UserError(
            f"{path} has no {file_name}: name a folder of `ssd-jax export --to={kind}`, or the "
            "file itself"
        )
    try:
        content = read_bytes(file)
        if file.name == file_name:  # a renamed file is not in the list
            verify_checksums(file.parent, [file_name])
    except FileNotFoundError as error:
        raise UserError(f"{file} does not exist{scheme_hint(path)}") from error
    except (OSError, ValueError) as error:
        raise UserError(f"{file} cannot be read: {reason_of(error)}") from error
    except DamageError as error:
        raise UserError(
            f"{file} is damaged: {error}. Export it again; or, if you changed the file yourself, "
            f"remove {CHECKSUMS_FILE}"
        ) from error
    return Exported(kind, content, as_named(str(file)))


def _copy(place: str, kind: str) -> Path:
    """The path of a file or folder; objects in a store are copied, with their checksums."""
    folder, _, name = place.rstrip("/").rpartition("/")
    if is_remote(place) and name == f"detector.{kind}":
        return local_copy(folder, {name, CHECKSUMS_FILE}.intersection) / name
    return local_copy(place, top_level)


def cannot_run(name: str, engine: str, error: Exception) -> UserError:
    """The error for a file that an engine rejects."""
    lines = [line for line in str(error).splitlines() if not line.startswith("Exception from")]
    reason = textwrap.shorten(lines[0], 200) if lines else type(error).__name__
    return UserError(f"{name} is damaged, or {engine} does not support it ({reason})")


def describe(
    metadata: Mapping[str, str],
    inputs: Mapping[str, Images],
    outputs: Sequence[str],
    name: str,
    wanted: Sequence[str] = Found._fields,
) -> Description:
    """Describes the detector in a file, from its metadata.

    Args:
      metadata: the metadata of the file.
      inputs: the inputs of its network, by name.
      outputs: the names of the outputs of its network.
      name: the name of the file in messages.
      wanted: the names of the outputs of a detector.

    Raises:
      UserError: the file has no detector of this project, or its metadata are damaged.
    """
    lacking = [each for each in KEYS if each not in metadata]
    if lacking:
        raise UserError(
            f"{name} is not a detector of `ssd-jax export`: its metadata lack {', '.join(lacking)}"
        )
    if not set(wanted) <= set(outputs):
        raise UserError(
            f"{name} has the outputs {', '.join(outputs)}, but a detector has {', '.join(wanted)}: "
            "name the file with the name detector"
        )
    try:
        entries = check_described(json.loads(metadata["classes"]), Path(name))
        side, least_score = int(metadata["image_size"]), float(metadata["score_threshold"])
    except UserError:
        raise
    except (ValueError, RecursionError) as error:
        values = {each: metadata[each] for each in KEYS}
        raise UserError(f"{name} is damaged: its metadata are {shown(values)}") from error
    images = inputs.get("images")
    if (
        images is None
        or len(inputs) != 1
        or "uint8" not in images.kind
        or list(images.shape[1:]) != [side, side, 3]
        or isinstance(images.shape[0], int)
    ):
        raise UserError(
            f"{name} has the inputs {shown(dict(inputs))}, but a detector takes any number of "
            f"images [{side}, {side}, 3] uint8: export it again"
        )
    names = tuple(entry["name"] for entry in entries)
    return Description(names, tuple(entry["id"] for entry in entries), side, least_score)


def check_found(found: Found, description: Description, name: str) -> Found:
    """Checks the labels of detections, and returns the detections.

    Raises:
      UserError: the file `name` has more classes than its metadata.
    """
    highest = int(np.max(found.labels, initial=0))
    if highest > len(description.class_names):
        raise UserError(
            f"{name} is damaged: it found the class {highest}, but its metadata name "
            f"{len(description.class_names)} classes"
        )
    return found
