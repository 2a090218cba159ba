"""Writes data sets as TFRecord files for TensorFlow Datasets, with our index.

    OUTPUT/dataset_info.json, features.json, objects-label.labels.txt    the metadata of TFDS
    OUTPUT/NAME-SPLIT.tfrecord-00000-of-00012                            the shards
    OUTPUT/index/SPLIT                                                   see `shard_index.py`

During the conversion, the folder has the name `OUTPUT.tmp`, and its folder `unfinished` has the
plan and the columns of each complete shard. The columns of a shard are written last. A conversion
that was killed continues with the shards without columns.
"""

import dataclasses
import functools
import json
import logging
import os
import re
import shutil
import threading
from collections.abc import Mapping, Sequence
from concurrent.futures import CancelledError
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np

from ssd_jax.data.column_files import DETAILS, Table, join_tables, load_table, save_table
from ssd_jax.data.columns import Strings
from ssd_jax.data.datasets import Dataset
from ssd_jax.data.fingerprint import describe_parts
from ssd_jax.data.records import Record
from ssd_jax.data.shard_index import INDEX, index_details
from ssd_jax.data.writers.shard_store import PLAN, WORK, ShardStore
from ssd_jax.data.writers.tf_example import example, write_record
from ssd_jax.data.writers.tfds_files import Shard, shard_name, write_tfds_files
from ssd_jax.errors import UserError, counted, reason_of
from ssd_jax.images.limits import MAX_BYTES
from ssd_jax.images.opening import upright_size
from ssd_jax.progress import progress_bar
from ssd_jax.storage.files import read_bytes, read_json, write_json
from ssd_jax.storage.locks import locked
from ssd_jax.storage.replacing import UNFINISHED, replacing, unfinished_name
from ssd_jax.threads import map_ahead, num_cores, pool_of_threads

logger = logging.getLogger(__name__)

SHARD_BYTES = 2**27  # the approximate size of a shard
SIZES_TRIED = 1000  # the number of images that give the mean size
VERSION = 1  # increase it when the same data would be written differently


class _Task(NamedTuple):
    """A shard to write.

    Attributes:
      dataset: the images of its split.
      indices: the indices of its images in `dataset`.
      place: its file.
      piece: the folder of its columns.
    """

    dataset: Dataset
    indices: range
    place: Path
    piece: Path


def write_shards(
    splits: Mapping[str, Dataset], folder: Path, store: ShardStore | None = None
) -> dict[str, int]:
    """Writes all splits; continues an interrupted conversion with its missing shards.

    Args:
      splits: the images by split, with the same classes; names have letters, digits and `_`.
      folder: created when everything is written; must not exist, or be empty.
      store: the store to which shards are sent; `folder` is then its folder.

    Returns:
      The number of objects of each split.

    Raises:
      UserError: an image cannot be read, another process writes the same folder, or the folder
        has an interrupted conversion of other data.
    """
    set_name = re.sub(r"\W+", "_", folder.name, flags=re.ASCII).lstrip("_0123456789") or "images"
    unfinished = folder.with_name(folder.name + UNFINISHED)
    if unfinished.exists() and not (unfinished / WORK).is_dir() and any(unfinished.iterdir()):
        raise UserError(f"{unfinished} exists, but not from such a conversion: remove it")
    with locked(unfinished / WORK, "--output"):
        for left in unfinished.rglob(f".*{UNFINISHED}"):  # of processes that were killed
            shutil.rmtree(left) if left.is_dir() else left.unlink()
        if store:
            store.begin()
        tasks = _planned(splits, unfinished, set_name, store)
        _write_missing([task for own in tasks.values() for task in own], store)
        shutil.rmtree(unfinished / INDEX, ignore_errors=True)
        written = {split: _join(own, unfinished / INDEX / split) for split, own in tasks.items()}
        names = next(iter(splits.values())).class_names
        shards = {split: own for split, (own, _) in written.items()}
        write_tfds_files(unfinished, set_name, names, shards)
    if folder.exists():
        folder.rmdir()
    unfinished.rename(folder)
    shutil.rmtree(folder / WORK)
    if store:
        store.finish()
    return {split: num_objects for split, (_, num_objects) in written.items()}


def _planned(
    splits: Mapping[str, Dataset], unfinished: Path, set_name: str, store: ShardStore | None
) -> dict[str, list[_Task]]:
    """The shards of each split, in order; the plan of an interrupted conversion is used again.

    Raises:
      UserError: the interrupted conversion had other data.
    """
    file = unfinished / WORK / PLAN
    data = json.loads(json.dumps({split: _described(own) for split, own in splits.items()}))
    if not file.exists():
        counts = {split: _images_a_shard(dataset) for split, dataset in splits.items()}
        write_json(file, {"version": VERSION, "data": data, "counts": counts})
        if store:
            store.send_plan()
    plan = read_json(file)
    if plan.get("version") != VERSION or plan.get("data") != data:
        raise UserError(
            f"{store.place if store else unfinished} is from an interrupted conversion of other "
            "data, or the data has changed since: remove it"
        )
    tasks: dict[str, list[_Task]] = {}
    for split, dataset in splits.items():
        starts = range(0, len(dataset), plan["counts"][split])
        tasks[split] = []
        for number, start in enumerate(starts):
            indices = range(start, min(start + starts.step, len(dataset)))
            name = shard_name(set_name, split, number, len(starts))
            tasks[split].append(_Task(dataset, indices, unfinished / name, file.with_name(name)))
    return tasks


def _described(dataset: Dataset) -> list[Any]:
    """A description of a data set; equal descriptions give equal shards."""
    return [*describe_parts(dataset), dataset.class_names, dataset.category_ids]


def _images_a_shard(dataset: Dataset) -> int:
    """The number of images with a size of about `SHARD_BYTES`."""
    step = max(1, len(dataset) // SIZES_TRIED)
    records = [dataset[index] for index in range(0, len(dataset), step)]
    sizes = [len(each.encoded) or _size_of_file(each.path) for each in records]
    return max(1, round(SHARD_BYTES * len(sizes) / max(1, sum(sizes))))


def _size_of_file(path: str) -> int:
    try:
        return os.stat(path).st_size
    except OSError:  # reported when the image is written
        return 0


def _write_missing(tasks: Sequence[_Task], store: ShardStore | None) -> None:
    """Writes the missing shards, one per thread."""
    missing = [task for task in tasks if not (task.piece / DETAILS).exists()]
    total = sum(len(task.indices) for task in tasks)
    done = total - sum(len(task.indices) for task in missing)
    if done:
        logger.info("continues an interrupted conversion: has %s", counted(done, "image"))
    is_stopped = threading.Event()
    with (
        pool_of_threads(num_cores()) as pool,
        progress_bar(total=total, initial=done, desc="convert", unit=" images") as bar,
    ):
        write = functools.partial(_write_shard, is_stopped=is_stopped, store=store)
        try:
            for count in map_ahead(pool, write, missing, 2 * num_cores()):
                bar.update(count)
        finally:
            is_stopped.set()


def _write_shard(task: _Task, is_stopped: threading.Event, store: ShardStore | None) -> int:
    """Writes a shard, then its columns; sends both if there is a store.

    Each file appears when it is complete.

    Returns:
      The number of its images.

    Raises:
      CancelledError: `is_stopped` is set, because another shard failed.
      UserError: an image cannot be read.
    """
    piece = _Piece()
    with replacing(task.place) as unfinished, unfinished.open("wb") as file:
        for index in task.indices:
            if is_stopped.is_set():
                raise CancelledError
            piece.add(task.dataset[index], file)
    unfinished = task.piece.with_name(unfinished_name())
    unfinished.mkdir()
    save_table(Table(piece.columns(), {}), unfinished)
    unfinished.rename(task.piece)
    if store:
        store.send_shard(task.place.name)
    return len(task.indices)


class _Piece:
    """Collects the columns of a shard while it is written."""

    def __init__(self) -> None:
        self._ids: list[str] = []
        self._spans: list[tuple[int, int]] = []
        self._sizes: list[tuple[float, float]] = []
        self._records: list[Record] = []  # without the images

    def add(self, record: Record, file: BinaryIO) -> None:
        """Writes a record to the shard.

        Raises:
          UserError: its image cannot be read.
        """
        encoded = record.encoded or _read_image(record.path)
        if not encoded:
            raise UserError(f"{record.path or record.image_id} is empty: replace the file")
        features = {
            "image/filename": os.fsencode(record.name),
            "image/id": os.fsencode(record.image_id),
            "objects/area": record.area,
            "objects/bbox": record.boxes[:, [1, 0, 3, 2]].ravel(),
            "objects/is_crowd": record.crowd,
            "objects/is_difficult": record.difficult,
            "objects/label": record.labels - 1,
            "image": encoded,
        }
        end = write_record(file, example(features))
        self._ids.append(record.image_id)
        self._spans.append((end - len(encoded), len(encoded)))
        self._sizes.append(record.size or _size(encoded))
        self._records.append(dataclasses.replace(record, encoded=b""))

    def columns(self) -> dict[str, Any]:
        """The columns of these records, for the index."""
        records = self._records
        counts = [len(record.labels) for record in records]
        classes = [record.labels - 1 for record in records]
        return {
            "image_ids": Strings.of(self._ids),
            "sizes": np.array(self._sizes, np.float64),
            "spans": np.array(self._spans, np.int64),
            "splits": np.cumsum([0, *counts], dtype=np.int64),
            "boxes": np.concatenate([record.boxes for record in records]).astype(np.float32),
            "classes": np.concatenate(classes).astype(np.int32),
            "difficult": np.concatenate([record.difficult for record in records]),
            "crowd": np.concatenate([record.crowd for record in records]),
            "area": np.concatenate([record.area for record in records]).astype(np.float64),
        }


def _read_image(path: str) -> bytes:
    try:
        return read_bytes(path, MAX_BYTES)
    except OSError as error:
        raise UserError(
            f"{path} cannot be read: {reason_of(error)}. Complete shards are kept: the same "
            "command continues the conversion"
        ) from error


def _size(encoded: bytes) -> tuple[float, float]:
    try:
        return upright_size(encoded, name="the image")
    except UserError:  # training reports the image, or leaves it out
        return np.nan, np.nan


def _join(tasks: Sequence[_Task], folder: Path) -> tuple[list[Shard], int]:
    """Writes the index of a split.

    Returns:
      Its shards, and the number of its objects.

    Raises:
      UserError: a shard of an earlier conversion is damaged.
    """
    folder.mkdir(parents=True)
    shards, pieces = [], []
    for task in tasks:
        table = load_table(task.piece)
        if table is None:
            raise UserError(f"{task.piece} is damaged: remove it, and start the command again")
        size = task.place.stat().st_size
        shards.append(Shard(task.place.name, len(task.indices), size))
        pieces.append(table.columns)
    dataset = tasks[0].dataset
    details = index_details(dataset.class_names, dataset.category_ids, shards)
    join_tables(pieces, details, folder)
    return shards, sum(len(piece["boxes"]) for piece in pieces)
