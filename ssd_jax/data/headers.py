"""Reads the headers of images: their sizes, and whether EXIF rotates them.

The headers of many files are cached in the user's cache folder, with the time and the size of each
file. A file whose time or size has changed is read again. One process of a machine reads the
headers, and the others use the same entry.
"""

import contextlib
import hashlib
import os
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ssd_jax.data.column_cache import RECENT, one_process, remove_oldest, save_entry, stamp
from ssd_jax.data.column_files import Table, load_table
from ssd_jax.data.columns import Columns, Strings, digest_of
from ssd_jax.data.image_bytes import num_readers, read_span
from ssd_jax.errors import UserError
from ssd_jax.images.opening import size_and_turned
from ssd_jax.storage import objects
from ssd_jax.storage.caches import cache_folder
from ssd_jax.threads import map_ahead, map_reads, num_cores, pool_of_threads

VERSION = 1  # increase it when the same image gives another header
FEWEST = 10_000  # the fewest images that are cached; fewer are read in about a second
STAMPS_AT_ONCE, HEADERS_AT_ONCE = 2**12, 2**6  # the number of images in one task of a thread
TABLE, COLUMNS = "table", ("stamps", "sizes", "turned")


class Headers(NamedTuple):
    """The headers of images.

    Attributes:
      sizes: `[images, 2]` int64 height and width, upright; -1 where the image cannot be opened.
      turned: `[images] bool`: whether EXIF exchanges width and height of the stored image.
      errors: the errors of images that cannot be opened, by index.
    """

    sizes: np.ndarray
    turned: np.ndarray
    errors: dict[int, UserError]


def read_headers(columns: Columns) -> Headers:
    """The headers of all images, from the cache where the files are the same."""
    unknown = Headers(np.full((len(columns), 2), -1), np.zeros(len(columns), bool), {})
    # Images inside files come from record files, which are read whole.
    if len(columns) < FEWEST or columns.spans.any():
        return _read(columns, unknown)
    try:
        entry = cache_folder("headers") / _digest(columns.paths)
        entry.mkdir(exist_ok=True)
    except (OSError, RuntimeError):  # the cache is optional
        return _read(columns, unknown)
    with one_process(entry):
        began, stamps = time.time_ns(), _stamps(columns.paths)
        known = _load(entry / TABLE, stamps) or unknown
        headers = _read(columns, known)
        if headers is not known:
            for index in np.flatnonzero(stamps[:, 0] >= began - RECENT).tolist():
                if objects.place_behind(columns.paths[index]) is None:  # placeholders stay the same
                    stamps[index] = -1
            stamps[headers.sizes[:, 0] < 0] = -1
            table = dict(zip(COLUMNS, (stamps, headers.sizes, headers.turned), strict=True))
            with contextlib.suppress(OSError):
                save_entry(Table(table, {}), entry / TABLE)
                remove_oldest(entry.parent, entry)
    with contextlib.suppress(OSError):
        os.utime(entry)  # marks it as recently used
    return headers


def _digest(paths: Strings) -> str:
    """The digest of the paths of images."""
    return digest_of(hashlib.sha256(f"{VERSION} {os.getcwd()} {len(paths)}".encode()), paths)


def _stamps(paths: Strings) -> np.ndarray:
    """`[images, 2]` int64: the time of the last change in nanoseconds, and the size; -1 if none."""

    def read(start: int) -> list[int]:
        own: list[int] = []
        for path in paths[start : start + STAMPS_AT_ONCE]:
            own += stamp(path)
        return own

    with pool_of_threads(num_readers()) as pool:
        pieces = map_reads(pool, read, range(0, len(paths), STAMPS_AT_ONCE), 2 * num_readers())
        return np.concatenate([np.array(piece, np.int64) for piece in pieces]).reshape(-1, 2)


def _load(place: Path, stamps: np.ndarray) -> Headers | None:
    """The cached headers of files with these stamps; the headers of other files are unknown."""
    table = load_table(place)
    if table is None or table.columns.keys() != set(COLUMNS):
        return None
    before, sizes, turned = (table.columns[name] for name in COLUMNS)
    if before.shape != stamps.shape:
        return None
    is_same = (before == stamps).all(axis=1) & (before[:, 0] >= 0)
    if is_same.all():
        return Headers(sizes, turned, {})
    return Headers(np.where(is_same[:, None], sizes, -1), turned & is_same, {})


def _read(columns: Columns, known: Headers) -> Headers:
    """Reads the headers that are not known; returns `known` itself if all are."""
    missing = np.flatnonzero(known.sizes[:, 0] < 0).tolist()
    if not missing:
        return known
    sizes, turned, errors = known.sizes.copy(), known.turned.copy(), {}
    for index, header in zip(missing, _opened(columns, missing), strict=True):
        if isinstance(header, UserError):
            errors[index] = header
        else:
            sizes[index], turned[index] = header
    return Headers(sizes, turned, errors)


def _opened(
    columns: Columns, indices: Sequence[int]
) -> Iterator[tuple[tuple[int, int], bool] | UserError]:
    """The size of each image and whether EXIF rotates it, or the error of opening it."""

    def read(index: int) -> tuple[tuple[int, int], bool] | UserError:
        span = columns.span(index)
        try:
            path = columns.paths[index]
            return size_and_turned(read_span(path, span) if span else path, name="the image")
        except UserError as error:
            return error

    def read_some(start: int) -> list[tuple[tuple[int, int], bool] | UserError]:
        return [read(index) for index in indices[start : start + at_once]]

    workers = max(2 * num_cores(), num_readers())
    # With one image a task, starting the tasks would take as long as reading the headers.
    at_once = min(HEADERS_AT_ONCE, 1 + len(indices) // (4 * workers))
    with pool_of_threads(workers) as pool:
        starts = range(0, len(indices), at_once)
        # Requests to a store always wait.
        in_order = map_ahead if objects.are_read() else map_reads
        for some in in_order(pool, read_some, starts, 2 * workers):
            yield from some
