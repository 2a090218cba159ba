"""Reads the bytes of an image inside a larger file."""

import functools
import os
from collections.abc import Callable

from ssd_jax.errors import UserError, reason_of
from ssd_jax.storage.files import open_file

# The number of files that stay open; systems allow a process at least 256.
MOST_OPEN = 128


def read_span(path: str, span: tuple[int, int]) -> bytes:
    """Reads the bytes of an image.

    Args:
      path: a file with many images.
      span: the position of the image in the file, as (offset, length).

    Raises:
      UserError: the file cannot be read, or ends inside the image.
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
    """Makes a `read_span` that keeps files open, which takes half of the time.

    It does not notice that an open file is replaced.
    """
    if not hasattr(os, "pread"):  # Windows
        return read_span
    opened = functools.lru_cache(MOST_OPEN)(functools.partial(open_file, buffering=0))

    def read(path: str, span: tuple[int, int]) -> bytes:
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
