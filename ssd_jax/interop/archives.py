"""Limits on the sizes stated in files of weights, checked before memory is allocated."""

import os
import struct
import zipfile
from pathlib import Path
from typing import BinaryIO

from ssd_jax.errors import UserError
from ssd_jax.storage.files import open_file

# An entry takes about 60 bytes in the directory, and ten times more in memory.
MAX_DIRECTORY = 2**22
COMPRESSIONS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)  # LZMA may need gigabytes

END, END_BYTES, LONGEST_COMMENT = b"PK\5\6", 22, 2**16
END_64, END_64_BYTES, LOCATOR_BYTES = b"PK\6\6", 56, 20


def max_tensor_bytes(path: Path, network_bytes: int) -> int:
    """The largest size of a file's tensors: twice the size of the file or of its network.

    Compression hardly reduces the size of weights.

    Args:
      path: the file.
      network_bytes: the size of the arrays that the file fills.

    Raises:
      OSError: the path is not a regular file.
      UserError: the file is mostly holes, which are not stored on disk.
    """
    with open_file(path) as file:
        status = os.fstat(file.fileno())
    # Some file systems do not report the stored size.
    stored = getattr(status, "st_blocks", 0) * 512 or status.st_size
    most = 2 * max(stored, network_bytes)
    check_claim(path, status.st_size, most, "holes")
    return most


def check_claim(path: Path, claimed: int, most: int, content: str = "tensors") -> None:
    """Raises a `UserError` if a file claims to contain more bytes than the limit."""
    if claimed > most:
        raise UserError(
            f"{path} is rejected: its {content} would take {claimed:,} bytes, more than {most:,}, "
            "the limit for the size of this file and of its network"
        )


def open_archive(file: BinaryIO) -> zipfile.ZipFile:
    """Opens a zip archive.

    Raises:
      ValueError: its directory is too large, or an entry has an unusual compression.
      zipfile.BadZipFile: the file is not an archive, or is damaged.
    """
    size = _directory_size(file)
    if size > MAX_DIRECTORY:
        raise ValueError(f"its directory has {size:,} bytes, more than {MAX_DIRECTORY:,}")
    archive = zipfile.ZipFile(file)
    for entry in archive.infolist():
        if entry.compress_type not in COMPRESSIONS:
            raise ValueError(f"{entry.filename} is compressed, but not by deflate")
    return archive


def _directory_size(file: BinaryIO) -> int:
    """The size of the directory in bytes, stated at the end of the archive."""
    length = file.seek(0, os.SEEK_END)
    start = max(0, length - END_BYTES - LONGEST_COMMENT)
    file.seek(start)
    end = file.read()
    place = end.rfind(END)
    if place < 0 or len(end) - place < END_BYTES:
        return 0  # `zipfile` reports the error
    (size,) = struct.unpack_from("<L", end, place + 12)
    large = start + place - LOCATOR_BYTES - END_64_BYTES
    if large >= 0:
        file.seek(large)
        record = file.read(END_64_BYTES)
        if record.startswith(END_64):
            (size,) = struct.unpack_from("<Q", record, 40)
    return size
