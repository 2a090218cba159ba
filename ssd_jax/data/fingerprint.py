"""Fingerprints of data sets: the number of images of each part, and a digest of them."""

import hashlib
import os

from ssd_jax.data.datasets import Dataset, Part
from ssd_jax.data.folder_records import FolderRecords
from ssd_jax.errors import counted


def describe_parts(dataset: Dataset) -> list[str]:
    """Describes each part; equal parts have equal descriptions.

    The names of files and the order of images matter, folders do not. For records of TFDS, files
    and record numbers are compared, not the content.
    """
    return [f"{counted(len(part), 'image')} ({_digest(part)})" for part in dataset.parts]


def _digest(part: Part) -> str:
    digest = hashlib.blake2b(digest_size=6)
    if isinstance(part, FolderRecords):
        columns = part.columns
        names = (os.path.basename(path) for path in columns.paths)
        digest.update("\0".join(names).encode(errors="surrogateescape"))
        digest.update(columns.image_ids.content)
        for array in (columns.spans, columns.splits, columns.boxes, columns.classes):
            digest.update(array.tobytes())
        digest.update(columns.difficult.tobytes() + columns.crowd.tobytes())
    else:
        for path, number in part.places():
            digest.update(f"{os.path.basename(path)}\0{number}\0".encode())
    return digest.hexdigest()
