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
# Requests to a store at the same time, which hide its latency: for each core, at least, at most.
REQUESTS_A_CORE, FEWEST_REQUESTS, MOST_REQUESTS = 8, 32, 96
REQUESTS_A_BLOCK = 16  # which are sent and waited for together


def requests_at_once() -> int:
    """How many images of a store are requested at the same time."""
    return min(max(FEWEST_REQUESTS, REQUESTS_A_CORE * num_cores()), MOST_REQUESTS)


def blocks_at_once() -> int:
    """How many blocks of `REQUESTS_A_BLOCK` images these are."""
    return requests_at_once() // REQUESTS_A_BLOCK


def num_readers() -> int:
    """Threads that read images: one for each core, and more that wait for a store, if any."""
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
    """Requests an image of a store, the path of which is that of its stand-in.

    Returns:
      A function that waits for the image and returns it; raises as `read_span` does, or an
      `OSError`.

    Raises:
      OSError: the stand-in cannot be read.
      UserError: the image has more than `MAX_BYTES`.
    """
    offset, length = span or (0, os.stat(path).st_size)
    behind = objects.place_behind(path)
    if behind is None or length > MAX_BYTES:
        raise UserError(f"{path} has {length:,} bytes, but at most {MAX_BYTES:,} are read")
    requested = objects.request_range(behind, offset, length)
    return lambda: _whole(path, requested(), length)


def span_reader() -> Callable[[str, tuple[int, int]], bytes]:
    """Makes a `read_span` that keeps files open, which takes half of the time.

    It does not notice that an open file is replaced.
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
