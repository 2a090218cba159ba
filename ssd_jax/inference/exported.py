"""Detectors in files that `ssd-jax export` wrote: opening them, and what they say of themselves.

Such a file is complete in itself: it holds the network, suppression, and as metadata the classes,
the side of the images and the threshold.
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

TOLD = ("classes", "image_size", "score_threshold")  # of the metadata


class Exported(NamedTuple):
    """A file with a detector.

    Attributes:
      kind: `onnx` or `tflite`.
      content: its bytes.
      name: what messages call it.
    """

    kind: str
    content: bytes
    name: str


class Images(NamedTuple):
    """An input of a network.

    Attributes:
      kind: its type as the engine writes it, like `tensor(uint8)`.
      shape: with what is no whole number where any is allowed.
    """

    kind: str
    shape: Sequence[object]


def read_exported(place: str | Path, kind: str) -> Exported:
    """The bytes of an exported file, compared with the checksum beside it.

    Args:
      place: the file, or its folder.
      kind: of the file, which is its suffix as well.

    Raises:
      UserError: there is no such file, it cannot be read, or it is damaged.
    """
    path, file_name = _copy(str(place), kind), f"detector.{kind}"
    file = path / file_name if path.is_dir() else path
    if path.is_dir() and not file.exists():
        raise UserError(
            f"{path} has no {file_name}: name the folder that `ssd-jax export --to={kind}` wrote, "
            "or the file itself"
        )
    try:
        content = read_bytes(file)
        if file.name == file_name:  # under another name it is no longer in the list
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
    """The path of a file or folder; of one in an object store a copy, with the file's checksum."""
    folder, _, name = place.rstrip("/").rpartition("/")
    if is_remote(place) and name == f"detector.{kind}":
        return local_copy(folder, {name, CHECKSUMS_FILE}.intersection) / name
    return local_copy(place, top_level)


def cannot_run(name: str, engine: str, error: Exception) -> UserError:
    """An error about a file that an engine does not take."""
    lines = [line for line in str(error).splitlines() if not line.startswith("Exception from")]
    reason = textwrap.shorten(lines[0], 200) if lines else type(error).__name__
    return UserError(f"{name} is damaged, or no network that {engine} runs ({reason})")


def describe(
    told: Mapping[str, str],
    inputs: Mapping[str, Images],
    outputs: Sequence[str],
    name: str,
    wanted: Sequence[str] = Found._fields,
) -> Description:
    """The detector in a file.

    Args:
      told: the metadata of the file.
      inputs: of its network, by name.
      outputs: the names of what the network gives.
      name: what messages call the file.
      wanted: what the network of a detector gives.

    Raises:
      UserError: the file holds no detector of this project, or its metadata are damaged.
    """
    lacking = [each for each in TOLD if each not in told]
    if lacking:
        raise UserError(
            f"{name} is no detector that `ssd-jax export` wrote: its metadata lack "
            f"{', '.join(lacking)}"
        )
    if not set(wanted) <= set(outputs):
        raise UserError(
            f"{name} gives {', '.join(outputs)}, but a detector gives {', '.join(wanted)}: "
            "name the file that is called detector"
        )
    try:
        entries = check_described(json.loads(told["classes"]), Path(name))
        side, least_score = int(told["image_size"]), float(told["score_threshold"])
    except UserError:
        raise
    except (ValueError, RecursionError) as error:
        values = {each: told[each] for each in TOLD}
        raise UserError(f"{name} is damaged: its metadata say {shown(values)}") from error
    images = inputs.get("images")
    if (
        images is None
        or len(inputs) != 1
        or "uint8" not in images.kind
        or list(images.shape[1:]) != [side, side, 3]
        or isinstance(images.shape[0], int)
    ):
        raise UserError(
            f"{name} takes {shown(dict(inputs))}, but a detector takes any number of images "
            f"[{side}, {side}, 3] uint8: export it again"
        )
    names = tuple(entry["name"] for entry in entries)
    return Description(names, tuple(entry["id"] for entry in entries), side, least_score)


def check_found(found: Found, description: Description, name: str) -> Found:
    """The detections themselves.

    Raises:
      UserError: the file called `name` has another number of classes than its metadata say.
    """
    highest = int(np.max(found.labels, initial=0))
    if highest > len(description.class_names):
        raise UserError(
            f"{name} is damaged: it found the class {highest}, but its metadata name "
            f"{len(description.class_names)} classes"
        )
    return found
