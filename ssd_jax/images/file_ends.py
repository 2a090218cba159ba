"""Finds truncated image files by their ends, hundreds of times as fast as by decoding."""

import io

from ssd_jax.storage.files import AnyPath, open_file

TAIL = 1024  # bytes at the end in which the mark is searched; some programs write more after it
JPEG, JPEG_END = b"\xff\xd8", b"\xff\xd9"  # the end is in no other part of a JPEG but a thumbnail
PNG, PNG_END = b"\x89PNG", b"IEND"
RIFF = b"RIFF"  # of WebP: the length follows


def may_be_truncated(file: AnyPath) -> bool:
    """Whether only decoding shows that an image file is complete.

    False: it is a JPEG, PNG or WebP with its end. Damage before the end is not found.

    Raises:
      OSError: the file cannot be read.
    """
    with open_file(file, buffering=0, reads_all=False) as opened:
        head = opened.read(8)
        size = opened.seek(0, io.SEEK_END)
        if head.startswith(RIFF):
            return size < 8 + int.from_bytes(head[4:8], "little")
        end = JPEG_END if head.startswith(JPEG) else PNG_END if head.startswith(PNG) else b""
        if not end:
            return True
        opened.seek(max(0, size - TAIL))
        return end not in opened.read(TAIL)
