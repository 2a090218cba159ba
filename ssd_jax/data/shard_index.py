"""Reads the index of shards: the objects and positions of their images, in mapped columns.

`index/SPLIT` in the folder of the shards has all columns except the paths, and these details:

    {"version": 1, "names": [NAME, …], "ids": [ID, …], "shards": [[NAME, RECORDS, BYTES], …]}

`names` are the names of the classes, `ids` their ids in results, and the column `classes` has
indices in both.
"""

import os
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ssd_jax.data.column_files import load_table
from ssd_jax.data.columns import Columns, Strings
from ssd_jax.data.writers.tfds_files import Shard
from ssd_jax.errors import UserError, reason_of

INDEX = "index"
VERSION = 1
COLUMNS = tuple(field.name for field in fields(Columns) if field.name != "paths")


class Index(NamedTuple):
    """The index of a split.

    Attributes:
      columns: the columns, with boxes as fractions, and classes as indices in `names`.
      names: the names of the classes.
      ids: the ids of the classes in results.
      starts: `[shards + 1]`: the first record of each shard, and the number of records.
    """

    columns: Columns
    names: tuple[str, ...]
    ids: tuple[int, ...]
    starts: np.ndarray


def index_details(
    names: Sequence[str], ids: Sequence[int], shards: Sequence[Shard]
) -> dict[str, Any]:
    """The details of an index; see the top of this file."""
    return {"version": VERSION, "names": names, "ids": ids, "shards": shards}


def has_index(folder: Path) -> bool:
    """Whether a set has an index."""
    return (folder / INDEX).is_dir()


def read_index(folder: Path, split: str) -> Index:
    """Reads the index of a split.

    Raises:
      UserError: the index does not exist, is damaged, or belongs to other shards.
    """
    place = folder / INDEX / split
    table = load_table(place)
    try:
        if table is None:
            raise ValueError
        details = table.details
        shards = [
            Shard(str(name), int(count), int(size)) for name, count, size in details["shards"]
        ]
        names, ids = tuple(map(str, details["names"])), tuple(map(int, details["ids"]))
        counts = [shard.records for shard in shards]
        paths = Strings.repeated((str(folder / shard.name) for shard in shards), counts)
        columns = Columns(paths=paths, **table.columns)
        starts = np.cumsum([0, *counts])
        is_known = details["version"] == VERSION and len(names) == len(ids)
        if not (is_known and _is_sound(columns, len(names), int(starts[-1]))):
            raise ValueError
    except (ValueError, TypeError, KeyError, AttributeError, OverflowError) as error:
        raise UserError(
            f"{place} is damaged, or from another version of ssd_jax: write the shards again with "
            f"ssd-jax convert-data; or remove {folder / INDEX} to read the set without it"
        ) from error
    _check_shards(folder, shards)
    sizes = np.repeat([shard.size for shard in shards], counts)
    if (columns.spans.sum(axis=1) > sizes).any():
        raise UserError(f"{place} is damaged: an image ends after its shard")
    return Index(columns, names, ids, starts)


def _is_sound(columns: Columns, num_classes: int, num_images: int) -> bool:
    """Whether columns are consistent, so that reading them cannot fail."""
    count = len(columns.boxes)
    of_images = (columns.image_ids, columns.paths, columns.sizes, columns.spans)
    of_objects = (columns.classes, columns.difficult, columns.crowd, columns.area)
    ends, splits = columns.image_ids.ends, columns.splits
    shapes = [(columns.boxes, (4,), "f4"), (columns.sizes, (2,), "f8"), (columns.spans, (2,), "i8"),
              (columns.classes, (), "i4"), (columns.difficult, (), "?"), (columns.crowd, (), "?"),
              (columns.area, (), "f8"), (splits, (), "i8"), (ends, (), "i8")]  # fmt: skip
    return (
        all(
            array.shape[1:] == shape and array.dtype == np.dtype(kind)
            for array, shape, kind in shapes
        )
        and num_images > 0
        and all(len(column) == num_images for column in of_images)
        and all(len(column) == count for column in of_objects)
        and len(splits) == num_images + 1
        and splits[0] == 0
        and splits[-1] == count
        and bool((np.diff(splits) >= 0).all())
        and bool((np.diff(ends) >= 0).all())
        and bool(ends[0] >= 0)
        and ends[-1] == len(columns.image_ids.content)
        and bool((columns.spans > 0).all())
        and (count == 0 or 0 <= columns.classes.min() <= columns.classes.max() < num_classes)
        and bool((columns.boxes >= 0).all() and (columns.boxes <= 1).all())
        and bool((columns.boxes[:, 2:] > columns.boxes[:, :2]).all())
    )


def _check_shards(folder: Path, shards: Sequence[Shard]) -> None:
    """Rejects missing shards, and shards with another size than in the index."""
    for shard in shards:
        path = folder / shard.name
        if path.parent != folder:
            raise UserError(
                f"{folder / INDEX} names {shard.name!r}, which is not a file in {folder}"
            )
        try:
            size = os.stat(path).st_size
        except OSError as error:
            raise UserError(f"{path} cannot be read: {reason_of(error)}") from error
        if size != shard.size:
            raise UserError(
                f"{path} has {size:,} bytes, but had {shard.size:,} when it was written: copy it "
                "again"
            )
