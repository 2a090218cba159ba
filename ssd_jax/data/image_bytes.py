"""Reads the bytes of an image that lies inside a larger file."""

import functools
import os
from collections.abc import Callable

from ssd_jax.errors import UserError, reason_of
from ssd_jax.storage.files import open_file

# Files that stay open; systems allow a process at least 256.
MOST_OPEN = 128


def read_span(path: str, span: tuple[int, int]) -> bytes:
    """The bytes of an image.

    Args:
      path: a file that holds many images.
      span: where the image lies in it, as (offset, length).

    Raises:
      UserError: the file cannot be read, or ends before the image does.
    """
    offset, length = span
    try:
        with open_file(path, buffering=0) as file:
            file.seek(offset)
            content = file.read(length)
    except OSError as error:
        raise UserError(f"{path} cannot be read: {reason_of(error)}") from error
    return _whole(path, content, length)


def span_reader() -> Callable[[str, tuple[int, int]], bytes]:
    """`read_span` that keeps files open, which takes half of the time.

    What takes the place of such a file meanwhile is not seen.
    """
    if not hasattr(os, "pread"):  # Windows
        return read_span
    opened = functools.lru_cache(MOST_OPEN)(functools.partial(open_file, buffering=0))

    def read(path: str, span: tuple[int, int]) -> bytes:
        offset, length = span
        try:
            file = opened(path)  # it is closed when no thread reads from it any more
            content = os.pread(file.fileno(), length, offset)
        except OSError as error:
            raise UserError(f"{path} cannot be read: {reason_of(error)}") from error
        return _whole(path, content, length)

    return read


def _whole(path: str, content: bytes, length: int) -> bytes:
    if len(content) < length:
        raise UserError(f"{path} ends inside an image: copy the file anew")
    return content
