"""Finds detection sets of TensorFlow Datasets in folders, and reads those with an index.

Sets written by `ssd-jax convert-data --to=shards` have an index (`shard_index.py`). They are read
without TensorFlow, as images inside larger files.
"""

import re
from pathlib import Path

import numpy as np

from ssd_jax.data.annotations import Annotations
from ssd_jax.data.columns import Columns
from ssd_jax.data.discovery import Splits
from ssd_jax.data.file_tree import FileTree
from ssd_jax.data.shard_index import Index, has_index, read_index
from ssd_jax.data.spec import compose
from ssd_jax.data.writers.tfds_files import FEATURES, INFO
from ssd_jax.errors import UserError
from ssd_jax.storage.files import read_json

TFDS_FILES = (FEATURES, INFO)


def is_prepared(folder: Path) -> bool:
    """Whether a folder holds a set prepared by TFDS or `convert-data`."""
    return all((folder / name).is_file() for name in TFDS_FILES)


def find_tfds(tree: FileTree) -> Splits:
    """Finds the sets below a folder, by split."""
    splits: Splits = {}
    for file in tree.files:
        folder, _, name = file.rpartition("/")
        if name == INFO and is_prepared(tree.path(folder)):
            for split in split_names(tree.path(folder)):
                splits.setdefault(split, []).append(compose("tfds", tree.path(folder), split))
    return splits


def split_names(folder: Path) -> list[str]:
    """The splits of a set.

    Raises:
      UserError: its `dataset_info.json` cannot be understood.
    """
    try:
        return [str(split["name"]) for split in read_json(folder / INFO)["splits"]]
    except (KeyError, TypeError) as error:
        raise UserError(f"{folder / INFO} is damaged: it names no splits") from error


def open_indexed(folder: Path, split: str) -> Annotations | None:
    """Opens a split, or a slice of one in TFDS's notation; None without an index.

    Raises:
      UserError: there is no such split, or the index or the shards are damaged.
    """
    if not has_index(folder):
        return None
    spec, names = compose("tfds", folder, split), split_names(folder)
    name = re.sub(r"\[.*\]$", "", split)
    if name not in names:
        raise UserError(f"{spec}: there is no split {split!r}, but {', '.join(names)}")
    index = read_index(folder, name)
    columns = index.columns
    if name != split:
        # TensorFlow Datasets interprets slices.
        from ssd_jax.data.formats.tfds_slices import slice_of_folder

        columns = _chosen(index, slice_of_folder(folder, split))
        if not len(columns):
            raise UserError(f"{spec} has no images")
    ids = dict(zip(index.names, index.ids, strict=True))
    return Annotations.of_columns(columns, columns.paths, index.names, spec, ids, is_clean=True)


def _chosen(index: Index, instructions: list[tuple[str, int, int]]) -> Columns:
    """The records that these instructions of TFDS select."""
    chosen = np.zeros(len(index.columns), bool)
    paths = [Path(index.columns.paths[start]).name for start in index.starts[:-1].tolist()]
    places = dict(zip(paths, zip(index.starts[:-1], index.starts[1:], strict=True), strict=True))
    for name, skip, take in instructions:
        start, end = places[name]
        chosen[start + skip : end if take == -1 else start + skip + take] = True
    return index.columns.chosen(chosen, np.ones(len(index.columns.boxes), bool))
