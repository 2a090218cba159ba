"""A data set: a random-access sequence of records with one or more parts."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Protocol, Self

import numpy as np

from ssd_jax.data.problems import Problems
from ssd_jax.data.records import Record


class Part(Protocol):
    """A part of a data set."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> Record: ...

    def share(self, process_index: int, process_count: int) -> range:
        """The indices of one process; each record belongs to exactly one process."""
        ...

    def chosen(self, images: np.ndarray) -> Self:
        """The records for which `[images] bool` is true."""
        ...

    def places(self) -> np.ndarray:
        """`[images]` int64: a hash, in this process, of each image's file and position in it."""
        ...

    def digest(self) -> str:
        """A digest of its images and objects; see `describe_parts`."""
        ...

    @property
    def shuffle_buffer(self) -> int:
        """The number of records that are shuffled together."""
        ...


class Dataset:
    """The records of all parts, one part after the other.

    Attributes:
      class_names: class i + 1 has the name `class_names[i]`.
      category_ids: the ids of the classes in results, in the same order: the ids of a COCO file
        or of COCO, otherwise 1, 2, ….
      merged_ids: labels by additional ids, if the data has a class under several names.
      problems: handles damaged images.
      parts: the parts of the data set.
    """

    def __init__(
        self,
        parts: Sequence[Part],
        class_names: Sequence[str],
        category_ids: Sequence[int],
        problems: Problems,
        merged_ids: Mapping[int, int] | None = None,
    ):
        """Joins parts with the same classes."""
        self.parts = tuple(parts)
        self.class_names = tuple(class_names)
        self.category_ids = tuple(category_ids)
        self.merged_ids = dict(merged_ids or {})
        self.problems = problems
        ends = np.cumsum([len(part) for part in parts])
        self._starts = [0, *ends[:-1].tolist()]
        self._length = int(ends[-1])

    def __len__(self) -> int:
        return self._length

    def __getitem__(self, index: int) -> Record:
        if not -len(self) <= index < len(self):
            raise IndexError(f"record {index} of {len(self)}")
        index = int(index) % len(self)
        number = int(np.searchsorted(self._starts, index, side="right")) - 1
        return self.parts[number][index - self._starts[number]]

    def chosen(self, images: Sequence[np.ndarray]) -> "Dataset":
        """The records for which `[images] bool` of their part is true; leaves out empty parts.

        Classes and problems are the same.
        """
        parts = [
            part if mask.all() else part.chosen(mask)
            for part, mask in zip(self.parts, images, strict=True)
            if mask.any()
        ]
        return self.of_parts(parts)

    def of_parts(self, parts: Sequence[Part]) -> "Dataset":
        """A data set of some parts, with the same classes and problems."""
        return Dataset(parts, self.class_names, self.category_ids, self.problems, self.merged_ids)

    def shares(self, process_index: int = 0, process_count: int = 1) -> list[range]:
        """The indices of one process, as a range for each part."""
        ranges = []
        for start, part in zip(self._starts, self.parts, strict=True):
            share = part.share(process_index, process_count)
            ranges.append(range(start + share.start, start + share.stop, share.step))
        return ranges

    def share(self, process_index: int = 0, process_count: int = 1) -> Iterator[int]:
        """The indices of one process, in order."""
        for indices in self.shares(process_index, process_count):
            yield from indices
