"""Caches the columns of large annotation files in the user's cache folder.

The columns are mapped into memory, so that all processes of a machine share them. The name of an
entry is the digest of all its inputs, so entries never change. Damaged entries are replaced.
"""

import contextlib
import hashlib
import json
import logging
import os
import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any, NamedTuple

from ssd_jax.data.column_files import Table, file_digest, load_table, save_table
from ssd_jax.data.columns import Columns
from ssd_jax.data.file_tree import FileTree
from ssd_jax.errors import UserError, reason_of
from ssd_jax.storage.caches import cache_folder
from ssd_jax.storage.locks import locked_in_turn
from ssd_jax.storage.placeholders import given_place
from ssd_jax.storage.replacing import unfinished_name

logger = logging.getLogger(__name__)

# Increase the version when the same file gives other columns or details.
VERSION = 2
# Smaller files are not cached: they are read in a second.
SMALLEST = 2**26  # bytes
# The size of the cache; beyond it, the least recently used entries are removed.
MOST_BYTES = 2**34
# A file that is newer than this may change again within the resolution of its time stamp.
RECENT = 2 * 10**9  # nanoseconds


class Cached(NamedTuple):
    """The cached content of an annotation file.

    Attributes:
      columns: the columns of its images.
      details: other content, in types of JSON.
    """

    columns: Columns
    details: dict[str, Any]


def cached(file: Path, tree: FileTree, read: Callable[[], tuple[Cached, bool]]) -> Cached:
    """The content of a file, from the cache if possible.

    Args:
      file: the annotation file; files below `SMALLEST` are not cached.
      tree: the folder of its images; the content also depends on their names.
      read: reads the file; its second result is whether the content may be cached.

    Raises:
      UserError: `read` raises it.
    """
    try:
        status = os.stat(file)
        if status.st_size < SMALLEST:
            return read()[0]
        folder = cache_folder("annotations")
        entry = folder / _digest(file, tree)
    except (OSError, RuntimeError):  # `read` reports errors of the file; the cache is optional
        return read()[0]
    if known := _load(entry):
        return known
    with one_process(folder):
        # Another process may have written the entry meanwhile.
        if known := _load(entry):
            return known
        made, may_be_cached = read()
        try:
            now = os.stat(file)
            is_same = (now.st_mtime_ns, now.st_size) == (status.st_mtime_ns, status.st_size)
            if not (is_same and may_be_cached):
                return made
            columns = {field.name: getattr(made.columns, field.name) for field in fields(Columns)}
            save_entry(Table(columns, made.details), entry)
            remove_oldest(folder, entry)
        except OSError as error:
            logger.info("%s is not cached in %s: %s", file, folder, reason_of(error))
            return made
    return _load(entry) or made


@contextlib.contextmanager
def one_process(folder: Path) -> Iterator[None]:
    """Lets one process at a time run a block, if the folder can be locked."""
    with contextlib.ExitStack() as stack:
        with contextlib.suppress(UserError):
            stack.enter_context(locked_in_turn(folder))
        yield


def stamp(file: str | os.PathLike[str]) -> tuple[int, int]:
    """The time of the last change of a file in nanoseconds, and its size; -1 without the file.

    The later of two times is used. Programs that copy or edit images may preserve the time of the
    content (`st_mtime`), but not that of the file's status (`st_ctime`).
    """
    try:
        status = os.stat(file)
    except (OSError, ValueError):
        return -1, -1
    return max(status.st_mtime_ns, status.st_ctime_ns), status.st_size


def _digest(file: Path, tree: FileTree) -> str:
    """The digest of the inputs of the columns: the file, the names of images, and their folder.

    Path, times, size and inode of a file identify its content. Only a recent file is read, because
    it may change again without another time.
    """
    status = os.stat(file)
    times = (status.st_mtime_ns, status.st_ctime_ns)
    content: object = [os.path.realpath(file), *times, status.st_size, status.st_ino]
    is_copy = given_place(file) != str(file)  # of an object, which does not change
    if max(times) > time.time_ns() - RECENT and not is_copy:
        content = file_digest(file)
    names = hashlib.sha256("\0".join(tree.files).encode(errors="surrogateescape")).hexdigest()
    deciding = json.dumps([VERSION, str(tree.root), content, names])
    return hashlib.sha256(deciding.encode()).hexdigest()


def save_entry(table: Table, entry: Path) -> None:
    """Writes an entry; it appears when it is complete."""
    unfinished = entry.with_name(unfinished_name())
    try:
        unfinished.mkdir()
        save_table(table, unfinished)
        shutil.rmtree(entry, ignore_errors=True)  # a damaged or older entry
        unfinished.rename(entry)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)


def _load(entry: Path) -> Cached | None:
    """Reads an entry; None if it does not exist or is damaged."""
    known = load_table(entry)
    if known is None or known.columns.keys() != {field.name for field in fields(Columns)}:
        return None
    with contextlib.suppress(OSError):
        os.utime(entry)  # marks it as recently used
    return Cached(Columns(**known.columns), known.details)


def remove_oldest(folder: Path, entry: Path) -> None:
    """Removes the least recently used entries until the cache is small enough; keeps `entry`."""
    entries = [path for path in folder.iterdir() if path.is_dir() and path != entry]
    entries.sort(key=lambda path: path.stat().st_mtime)
    sizes = {path: _size(path) for path in entries}
    bytes_left = MOST_BYTES - _size(entry) - sum(sizes.values())
    for path in entries:
        if bytes_left >= 0:
            break
        shutil.rmtree(path, ignore_errors=True)
        bytes_left += sizes[path]


def _size(entry: Path) -> int:
    return sum(file.stat().st_size for file in entry.rglob("*"))
