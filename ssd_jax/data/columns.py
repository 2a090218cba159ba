"""Stores annotations of many images in a few arrays, so that millions of images fit in memory."""

import dataclasses
import mmap
import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, overload

import numpy as np

AT_ONCE = 2**20  # the number of objects that are processed together
STRINGS_AT_ONCE = 2**16  # the number of strings that are copied together


class Strings(Sequence[str]):
    """Many strings as one byte string, with the start and end of each.

    Attributes:
      content: the encoded strings.
      starts: `[strings]` int64.
      ends: `[strings]` int64.
    """

    def __init__(self, content: bytes | mmap.mmap, starts: np.ndarray, ends: np.ndarray):
        """Stores the attributes."""
        self.content, self.starts, self.ends = content, starts, ends

    @classmethod
    def joined(cls, content: bytes | mmap.mmap, ends: np.ndarray) -> "Strings":
        """Makes strings from a concatenation and its `[strings] int64` ends."""
        return cls(content, np.concatenate([np.zeros(1, np.int64), ends])[:-1], ends)

    @classmethod
    def of(cls, strings: Iterable[str]) -> "Strings":
        """Encodes strings with the encoding of file names."""
        content, ends = bytearray(), []
        for string in strings:
            content += os.fsencode(string)
            ends.append(len(content))
        return cls.joined(bytes(content), np.array(ends, np.int64))

    @classmethod
    def repeated(cls, strings: Iterable[str], counts: Sequence[int]) -> "Strings":
        """Repeats each string by its count; the encoded strings are stored once."""
        once = cls.of(strings)
        return cls(once.content, np.repeat(once.starts, counts), np.repeat(once.ends, counts))

    def __len__(self) -> int:
        return len(self.ends)

    @overload
    def __getitem__(self, index: int) -> str: ...
    @overload
    def __getitem__(self, index: slice) -> "Strings": ...
    def __getitem__(self, index: int | slice) -> "str | Strings":
        if isinstance(index, slice):
            return Strings(self.content, self.starts[index], self.ends[index])
        return os.fsdecode(self.content[self.starts[index] : self.ends[index]])

    def __iter__(self) -> Iterator[str]:
        encoding, errors = sys.getfilesystemencoding(), sys.getfilesystemencodeerrors()
        for start in range(0, len(self), STRINGS_AT_ONCE):
            own = slice(start, start + STRINGS_AT_ONCE)
            for begin, end in zip(self.starts[own].tolist(), self.ends[own].tolist(), strict=True):
                yield self.content[begin:end].decode(encoding, errors)

    def chosen(self, mask: np.ndarray) -> "Strings":
        """The strings for which `[strings] bool` is true; their bytes are not copied."""
        return Strings(self.content, self.starts[mask], self.ends[mask])

    def after_last(self, letter: bytes) -> "Strings":
        """The end of each string after the last occurrence of a byte; whole strings without it."""
        places = np.flatnonzero(np.frombuffer(self.content, np.uint8) == letter[0])
        last = np.concatenate([np.full(1, -1), places])[np.searchsorted(places, self.ends)]
        return Strings(self.content, np.maximum(self.starts, last + 1), self.ends)

    def packed(self) -> "Strings":
        """The same strings, whose bytes follow each other without gaps."""
        lengths = self.ends - self.starts
        ends = np.cumsum(lengths)
        if np.array_equal(ends, self.ends) and len(self.content) == ends[-1:].sum():
            return self
        content, letters = bytearray(), np.frombuffer(self.content, np.uint8)
        for start in range(0, len(self), STRINGS_AT_ONCE):
            own = slice(start, start + STRINGS_AT_ONCE)
            begins = np.cumsum(lengths[own]) - lengths[own]
            places = np.arange(lengths[own].sum()) + np.repeat(
                self.starts[own] - begins, lengths[own]
            )
            content += letters[places].tobytes()
        return Strings.joined(bytes(content), ends)


def digest_of(digest: Any, *columns: Strings | np.ndarray) -> str:
    """Adds the content of columns to a new digest of `hashlib`, and returns it in hexadecimal."""
    for column in columns:
        if isinstance(column, Strings):
            packed = column.packed()
            digest.update(packed.content)
            column = packed.ends
        digest.update(np.ascontiguousarray(column).data)
    return digest.hexdigest()


class Repeated(Sequence[str]):
    """One string, many times."""

    def __init__(self, string: str, count: int):
        """Stores the string and the number of repetitions."""
        self._string = string
        self._count = count

    def __len__(self) -> int:
        return self._count

    @overload
    def __getitem__(self, index: int) -> str: ...
    @overload
    def __getitem__(self, index: slice) -> "Repeated": ...
    def __getitem__(self, index: int | slice) -> "str | Repeated":
        places = range(self._count)[index]
        return self._string if isinstance(places, int) else Repeated(self._string, len(places))


@dataclasses.dataclass(frozen=True)
class Columns:
    """Images in files, with their objects.

    The objects of image i are those from `splits[i]` to `splits[i + 1]`.

    Attributes:
      image_ids: the names of the images in results.
      paths: the image files.
      sizes: `[images, 2]` float64 height and width, NaN where unknown.
      spans: `[images, 2]` int64 offset and length of the image in its file; length 0: whole file.
      splits: `[images + 1]` int64, ascending from 0.
      boxes: `[objects, 4] xyxy` floats; the owner of the columns defines the unit.
      classes: `[objects]` int32; the owner of the columns defines the list of classes.
      difficult: `[objects] bool`.
      crowd: `[objects] bool`.
      area: `[objects]` float64, NaN where not given.
    """

    image_ids: Strings
    paths: Strings
    sizes: np.ndarray
    spans: np.ndarray
    splits: np.ndarray
    boxes: np.ndarray
    classes: np.ndarray
    difficult: np.ndarray
    crowd: np.ndarray
    area: np.ndarray

    def __len__(self) -> int:
        return len(self.splits) - 1

    def objects(self, index: int) -> slice:
        """The slice of the objects of an image."""
        return slice(int(self.splits[index]), int(self.splits[index + 1]))

    def size(self, index: int) -> tuple[float, float] | None:
        """(height, width); None if unknown."""
        height, width = self.sizes[index].tolist()
        return None if np.isnan(height) else (height, width)

    def span(self, index: int) -> tuple[int, int] | None:
        """(offset, length) of an image in its file; None for the whole file."""
        offset, length = self.spans[index].tolist()
        return (offset, length) if length else None

    def owners(self) -> np.ndarray:
        """`[objects] int32`: the index of each object's image."""
        return np.repeat(np.arange(len(self), dtype=np.int32), np.diff(self.splits))

    def pieces(self) -> Iterator[slice]:
        """Yields slices of about `AT_ONCE` objects, in order; each has whole images."""
        start = 0
        while start < len(self):
            beyond = np.searchsorted(self.splits, self.splits[start] + AT_ONCE, side="right")
            end = max(start + 1, int(beyond) - 1)
            yield slice(int(self.splits[start]), int(self.splits[end]))
            start = end

    def chosen(self, images: np.ndarray, objects: np.ndarray) -> "Columns":
        """The images and objects for which `[images] bool` and `[objects] bool` are true."""
        if images.all() and objects.all():
            return self
        owners = self.owners()
        objects = objects & images[owners]
        counts = np.bincount(owners[objects], minlength=len(self))[images]
        return Columns(
            image_ids=self.image_ids.chosen(images),
            paths=self.paths.chosen(images),
            sizes=self.sizes[images],
            spans=self.spans[images],
            splits=np.concatenate([np.zeros(1, np.int64), np.cumsum(counts)]),
            boxes=self.boxes[objects],
            classes=self.classes[objects],
            difficult=self.difficult[objects],
            crowd=self.crowd[objects],
            area=self.area[objects],
        )
