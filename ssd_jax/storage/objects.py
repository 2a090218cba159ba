"""Reads objects in their store, by ranges, when local placeholders are opened.

A placeholder is a file of the object's size without content (`placeholders.py`). It is listed and
found like any file; opening it (`files.py`) reads the object.
"""

import errno
import io
import os
from collections.abc import Callable
from pathlib import PurePosixPath

from ssd_jax.errors import StoreError, UserError
from ssd_jax.storage import ranges
from ssd_jax.storage.clouds import MissingError

# Files that describe images are copied, because most are small and all are read whole.
COPIED = frozenset(
    ".json .jsonl .xml .txt .csv .yaml .yml .data .names .labels .pbtxt".split()  # noqa: SIM905
)
# Columns of the index of shards are mapped into memory: index/SPLIT/NAME or index/SPLIT/NAME.npy.
INDEX, INDEX_SUFFIXES = "index", ("", ".npy")
HEADER = 2**16  # bytes that hold the header of nearly every image

# The beginnings of the places of objects, by the folders of their placeholders.
_folders: dict[str, str] = {}


def is_copied(name: str) -> bool:
    """Whether an object of data is copied, by its name; others have a placeholder."""
    path = PurePosixPath(name)
    is_column = path.suffix in INDEX_SUFFIXES and path.parts[-3:-2] == (INDEX,)
    return is_column or path.suffix.lower() in COPIED


def add_folder(folder: str, beginning: str) -> None:
    """Registers a folder of placeholders.

    Args:
      folder: with a slash at its end.
      beginning: the beginning of the places of its objects, which replaces the folder.
    """
    _folders[folder] = beginning


def are_read() -> bool:
    """Whether this process has placeholders."""
    return bool(_folders)


def place_behind(path: str | os.PathLike[str]) -> str | None:
    """The place of the object of a placeholder; None for a local file."""
    for folder, beginning in _folders.items():
        text = os.fspath(path)
        if text.startswith(folder) and not is_copied(text):
            return beginning + text.removeprefix(folder)
    return None


def size_of(path: str | os.PathLike[str]) -> int:
    """The number of bytes of the object of a placeholder.

    Raises:
      OSError: there is no such placeholder.
      StoreError: all placeholders were removed, which does not mean that the object is missing.
    """
    try:
        return os.stat(path).st_size
    except FileNotFoundError as error:
        for folder in _folders:
            if os.fspath(path).startswith(folder) and not os.path.isdir(folder):
                raise StoreError(
                    f"{folder} was removed by another program, but is in use: start again"
                ) from error
        raise


def request_range(place: str, offset: int, length: int) -> Callable[[], bytes]:
    """Requests some bytes of an object; so several requests can be waited for together.

    Requests that fail are repeated, with growing pauses, for about half a minute.

    Returns:
      A function that waits for the bytes and returns them, fewer if the object ends before. It
      raises a `FileNotFoundError` if there is no such object any more, and a `StoreError` if the
      store does not answer, or refuses.
    """
    if not length:
        return bytes
    requested = ranges.request_range(place, offset, length)

    def wait() -> bytes:
        try:
            return requested()
        except MissingError as error:
            reason = "there is no such object any more"
            raise FileNotFoundError(errno.ENOENT, reason, place) from error
        except UserError as error:
            raise StoreError(str(error)) from error

    return wait


def read_range(place: str, offset: int, length: int) -> bytes:
    """Some bytes of an object; fewer if it ends before.

    Raises:
      FileNotFoundError: the object does not exist any more.
      StoreError: the store does not answer, or refuses.
    """
    return request_range(place, offset, length)()


class ObjectFile(io.RawIOBase):
    """An object as a file without a buffer, read in one or two requests."""

    def __init__(self, path: str | os.PathLike[str], place: str, reads_all: bool):
        """Stores the attributes; reads nothing.

        Args:
          path: of the placeholder.
          place: of the object.
          reads_all: whether all of it is requested at once; otherwise `HEADER` bytes, and the
            others when they are needed.
        """
        self._place = place
        self._size = size_of(path)
        self._content = b""
        self._first = self._size if reads_all else HEADER
        self._position = 0

    def readable(self) -> bool:
        """True."""
        return True

    def seekable(self) -> bool:
        """True."""
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:
        """Moves to an offset from the start, the current position or the end."""
        start = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._size}[whence]
        self._position = max(0, start + offset)
        return self._position

    def readinto(self, buffer: bytearray | memoryview, /) -> int:
        """Reads into a buffer; returns the number of bytes, 0 at the end."""
        view = memoryview(buffer).cast("B")
        end = min(self._position + len(view), self._size)
        self._request(end)
        content = self._content[self._position : end]
        view[: len(content)] = content
        self._position += len(content)
        return len(content)

    def _request(self, end: int) -> None:
        """Makes sure that the bytes before `end` are there."""
        known = len(self._content)
        if known < end:
            is_enough = not known and end <= self._first
            length = (min(self._first, self._size) if is_enough else self._size) - known
            self._content += read_range(self._place, known, length)
            if len(self._content) < end:
                raise OSError(errno.EIO, "it has become shorter since it was listed", self._place)
