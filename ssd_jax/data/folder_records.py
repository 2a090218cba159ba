"""The records of images in files."""

import dataclasses
import hashlib
import os

import numpy as np

from ssd_jax.data.columns import Columns, digest_of
from ssd_jax.data.image_bytes import read_span
from ssd_jax.data.records import Record
from ssd_jax.storage.files import real_paths


class FolderRecords:
    """The records of images in files, with all objects in memory, in columns.

    Attributes:
      columns: the cleaned columns; `classes` are labels from 1.
      num_others: the number of left out objects of other classes.
    """

    def __init__(
        self,
        columns: Columns,
        boxes: np.ndarray,
        labels: np.ndarray,
        sizes: np.ndarray,
        num_others: int = 0,
    ):
        """Stores columns, with their boxes, sizes and classes replaced."""
        self.num_others = num_others
        self.columns = dataclasses.replace(columns, boxes=boxes, classes=labels, sizes=sizes)

    def __len__(self) -> int:
        return len(self.columns)

    def __getitem__(self, index: int) -> Record:
        """One record, with the bytes of its image if that is inside a larger file.

        Raises:
          UserError: the larger file cannot be read.
        """
        columns, objects = self.columns, self.columns.objects(index)
        path, span = columns.paths[index], columns.span(index)
        return Record(
            image_id=columns.image_ids[index],
            path="" if span else path,
            encoded=read_span(path, span) if span else b"",
            size=columns.size(index),
            boxes=columns.boxes[objects],
            labels=columns.classes[objects],
            difficult=columns.difficult[objects],
            crowd=columns.crowd[objects],
            area=columns.area[objects],
        )

    def chosen(self, images: np.ndarray) -> "FolderRecords":
        """The records for which `[images] bool` is true."""
        kept = self.columns.chosen(images, np.ones(len(self.columns.boxes), bool))
        return FolderRecords(kept, kept.boxes, kept.classes, kept.sizes, self.num_others)

    def places(self) -> np.ndarray:
        """`[images]` int64: a hash of each image's file and of its offset in the file."""
        offsets = self.columns.spans[:, 0].tolist()
        places = zip(real_paths(self.columns.paths), offsets, strict=True)
        return np.fromiter(map(hash, places), np.int64, len(self))

    def digest(self) -> str:
        """See `Part`."""
        columns = self.columns
        return digest_of(
            hashlib.blake2b(digest_size=6),
            columns.paths.after_last(os.fsencode(os.sep)),
            columns.image_ids,
            columns.spans,
            columns.splits,
            columns.boxes,
            columns.classes,
            columns.difficult,
            columns.crowd,
        )

    def share(self, process_index: int, process_count: int) -> range:
        """The records of one process: every `process_count`-th."""
        return range(process_index, len(self), process_count)

    @property
    def shuffle_buffer(self) -> int:
        """The number of records that are shuffled together: all."""
        return max(1, len(self))
