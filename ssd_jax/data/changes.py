"""Detects changes in the data of a run between two starts.

A work directory keeps a digest of each image's annotation, about 40 bytes per image.
"""

import hashlib
import itertools
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np

from ssd_jax.data.datasets import Dataset
from ssd_jax.data.folder_records import FolderRecords
from ssd_jax.errors import UserError, counted, first_names
from ssd_jax.storage.files import read_json, write_json

DIGESTS_FILE = "data.json"

# Digests of annotations by image id. If several sources have the same id, the number of the source
# is appended from the second source on.
Digests = dict[str, str]


def annotation_digests(dataset: Dataset) -> Digests:
    """The digest of each image's objects; sets of TFDS do not change and are left out."""
    digests: Digests = {}
    for number, part in enumerate(dataset.parts, 1):
        if isinstance(part, FolderRecords):
            own = dict(_digests_of_part(part))
            digests |= {
                f"{name} (source {number})" if name in digests else name: digest
                for name, digest in own.items()
            }
    return digests


def _digests_of_part(part: FolderRecords) -> Iterator[tuple[str, str]]:
    columns, ids, first = part.columns, iter(part.columns.image_ids), 0
    for objects in columns.pieces():
        arrays = (columns.boxes, columns.classes, columns.difficult, columns.crowd)
        numbers = np.column_stack([array[objects] for array in arrays]).astype(np.float64)
        content, last = numbers.tobytes(), int(np.searchsorted(columns.splits, objects.stop))
        if objects.stop == len(columns.boxes):
            last = len(columns)  # includes images without objects at the end
        places = (columns.splits[first : last + 1] - objects.start) * numbers.strides[0]
        for start, end in itertools.pairwise(places.tolist()):
            yield next(ids), _digest(content[start:end])
        first = last


def _digest(content: bytes) -> str:
    return hashlib.blake2b(content, digest_size=8).hexdigest()


def describe_changes(before: Mapping[str, str], now: Mapping[str, str]) -> str:
    """Describes how many images were added, removed, or annotated differently; "" if none.

    Args:
      before: the digests of the last start.
      now: the digests of this start.
    """
    changes = {
        "added": [name for name in now if name not in before],
        "removed": [name for name in before if name not in now],
        "with other annotations": [
            name for name, digest in now.items() if before.get(name, digest) != digest
        ],
    }
    return "; ".join(
        f"{counted(len(names), 'image')} {change} ({first_names(names, 3)})"
        for change, names in changes.items()
        if names
    )


def renamed_images(before: Mapping[str, str], evaluated: set[str], train: Digests) -> list[str]:
    """Finds training images that may be renamed evaluation images.

    Such an image has a new id, and the same annotations as an evaluation image that is missing.

    Args:
      before: the digests of the last start.
      evaluated: the ids of the evaluation images of the last start that are missing now.
      train: the digests of the training images of this start.

    Returns:
      The ids of the training images.
    """
    gone = {before[name] for name in evaluated if name in before and name not in train}
    gone.discard(_digest(b""))  # images without objects
    return [name for name, digest in train.items() if name not in before and digest in gone]


def read_digests(folder: Path) -> dict[str, Digests]:
    """Reads the digests of the last start, by "train" and "evaluation"; {} without the file.

    Raises:
      UserError: the file is damaged.
    """
    path = folder / DIGESTS_FILE
    if not path.exists():
        return {}
    content = read_json(path)
    if not isinstance(content, dict) or not all(
        isinstance(own, dict) and all(isinstance(digest, str) for digest in own.values())
        for own in content.values()
    ):
        raise UserError(f"{path} is damaged: it does not have the digests of images")
    return content


def write_digests(folder: Path, train: Digests, evaluation: Digests) -> None:
    """Writes the digests of this start."""
    write_json(folder / DIGESTS_FILE, {"train": train, "evaluation": evaluation}, indent=None)
