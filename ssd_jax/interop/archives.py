"""Limits on what files of weights claim, checked before any memory is taken for it."""

import os
import struct
import zipfile
from pathlib import Path
from typing import BinaryIO

from ssd_jax.errors import UserError
from ssd_jax.storage.files import open_file

# An entry takes some 60 bytes in the directory, and ten times as many in memory.
MAX_DIRECTORY = 2**22
COMPRESSIONS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)  # LZMA may ask for gigabytes

END, END_BYTES, LONGEST_COMMENT = b"PK\5\6", 22, 2**16
END_64, END_64_BYTES, LOCATOR_BYTES = b"PK\6\6", 56, 20


def max_tensor_bytes(path: Path, network_bytes: int) -> int:
    """The bytes that the tensors of a file may take: twice its own, or twice those of its network.

    Weights hardly become smaller when they are compressed.

    Args:
      path: the file.
      network_bytes: of the arrays that it fills.

    Raises:
      OSError: it is no regular file.
      UserError: the file itself is larger, most of it being holes, which take no place on a disk.
    """
    with open_file(path) as file:
        status = os.fstat(file.fileno())
    # Some file systems do not tell how much is stored.
    stored = getattr(status, "st_blocks", 0) * 512 or status.st_size
    most = 2 * max(stored, network_bytes)
    check_claim(path, status.st_size, most, "holes")
    return most


def check_claim(path: Path, claimed: int, most: int, what: str = "tensors") -> None:
    """Raises a `UserError` where a file claims to hold more bytes than are read."""
    if claimed > most:
        raise UserError(
            f"{path} is refused: its {what} would take {claimed:,} bytes, more than {most:,}, "
            "which the file and the network that it is for explain"
        )


def open_archive(file: BinaryIO) -> zipfile.ZipFile:
    """An archive.

    Raises:
      ValueError: its directory is too large, or an entry is compressed in another way than zip's.
      zipfile.BadZipFile: it is none, or damaged.
    """
    size = _directory_size(file)
    if size > MAX_DIRECTORY:
        raise ValueError(f"its directory has {size:,} bytes, more than {MAX_DIRECTORY:,}")
    archive = zipfile.ZipFile(file)
    for entry in archive.infolist():
        if entry.compress_type not in COMPRESSIONS:
            raise ValueError(f"{entry.filename} is compressed by another method than deflate")
    return archive


def _directory_size(file: BinaryIO) -> int:
    """The bytes of the directory, as the end of the archive tells."""
    length = file.seek(0, os.SEEK_END)
    start = max(0, length - END_BYTES - LONGEST_COMMENT)
    file.seek(start)
    end = file.read()
    place = end.rfind(END)
    if place < 0 or len(end) - place < END_BYTES:
        return 0  # `zipfile` says what is wrong
    (size,) = struct.unpack_from("<L", end, place + 12)
    large = start + place - LOCATOR_BYTES - END_64_BYTES
    if large >= 0:
        file.seek(large)
        record = file.read(END_64_BYTES)
        if record.startswith(END_64):
            (size,) = struct.unpack_from("<Q", record, 40)
    return size
