"""Reads the bytes of images inside larger files, and of objects in stores."""

import functools
import os
from collections.abc import Callable

from ssd_jax.errors import UserError, reason_of
from ssd_jax.images.limits import MAX_BYTES
from ssd_jax.storage import objects
from ssd_jax.storage.files import open_file
from ssd_jax.threads import num_cores

# The number of files that stay open; systems allow a process at least 256.
MOST_OPEN = 128
# Parallel requests hide the latency of a store: the number for each core, and its limits.
REQUESTS_A_CORE, FEWEST_REQUESTS, MOST_REQUESTS = 8, 32, 96
REQUESTS_A_BLOCK = 16  # the requests of a block are sent together, and all are awaited


def requests_at_once() -> int:
    """The number of images that are requested from a store at the same time."""
    return min(max(FEWEST_REQUESTS, REQUESTS_A_CORE * num_cores()), MOST_REQUESTS)


def blocks_at_once() -> int:
    """The number of blocks of `REQUESTS_A_BLOCK` images that are requested at the same time."""
    return requests_at_once() // REQUESTS_A_BLOCK


def num_readers() -> int:
    """The number of threads that read images: one a core, and more if they wait for a store."""
    return num_cores() + (requests_at_once() if objects.are_read() else 0)


def read_span(path: str, span: tuple[int, int]) -> bytes:
    """Reads the bytes of an image.

    Args:
      path: a file with many images.
      span: the position of the image in the file, as (offset, length).

    Raises:
      UserError: the file cannot be read, or ends inside the image.
      StoreError: a store does not answer.
    """
    offset, length = span
    try:
        if behind := objects.place_behind(path):
            return _whole(path, objects.read_range(behind, offset, length), length)
        with open_file(path, buffering=0) as file:
            file.seek(offset)
            content = file.read(length)
    except OSError as error:
        raise UserError(f"{path} cannot be read: {reason_of(error)}") from error
    return _whole(path, content, length)


def request_image(path: str, span: tuple[int, int] | None) -> Callable[[], bytes]:
    """Requests an image in a store, without waiting for it.

    Args:
      path: the placeholder of the object.
      span: the position of the image in the object, as (offset, length); None for the whole object.

    Returns:
      A function that waits for the image and returns its bytes. It raises the errors of
      `read_span`, or an `OSError`.

    Raises:
      OSError: the placeholder cannot be read.
      UserError: the image has more than `MAX_BYTES`.
      StoreError: all placeholders were removed.
    """
    offset, length = span or (0, objects.size_of(path))
    behind = objects.place_behind(path)
    if behind is None or length > MAX_BYTES:
        raise UserError(f"{path} has {length:,} bytes, but at most {MAX_BYTES:,} are read")
    requested = objects.request_range(behind, offset, length)
    return lambda: _whole(path, requested(), length)


def span_reader() -> Callable[[str, tuple[int, int]], bytes]:
    """Makes a `read_span` that keeps files open, and so takes half of the time.

    If an open file is replaced, it continues to read the old one.
    """
    if not hasattr(os, "pread"):  # Windows
        return read_span
    opened = functools.lru_cache(MOST_OPEN)(functools.partial(open_file, buffering=0))

    def read(path: str, span: tuple[int, int]) -> bytes:
        if objects.place_behind(path):
            return read_span(path, span)
        offset, length = span
        try:
            file = opened(path)  # closed when no thread uses it any more
            content = os.pread(file.fileno(), length, offset)
        except OSError as error:
            raise UserError(f"{path} cannot be read: {reason_of(error)}") from error
        return _whole(path, content, length)

    return read


def _whole(path: str, content: bytes, length: int) -> bytes:
    if len(content) < length:
        raise UserError(f"{path} ends inside an image: copy the file again")
    return content
