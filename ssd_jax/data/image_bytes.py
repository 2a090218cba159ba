"""Reads the bytes of an image that lies inside a larger file."""

from ssd_jax.errors import UserError, reason_of
from ssd_jax.storage.files import open_file


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
    if len(content) < length:
        raise UserError(f"{path} ends inside an image: copy the file anew")
    return content
