"""Limits that keep a hostile image file from holding its reader for minutes, or taking gigabytes.

A file of few pixels may have 20,000 scans, each of which is decoded over all of the image; hundreds
of thousands of segments, which Pillow joins one by one; or thousands of tags that all point to the
same megabytes. No program writes such files, and each limit is far above what programs write.
"""

import io
import re
from typing import IO, BinaryIO

from PIL import TiffImagePlugin

# Larger files are refused unread: those of cameras have less than 100 MB.
MAX_BYTES = 400_000_000

# Checked in the header, before anything is decoded; of images and of the frames of videos.
MAX_PIXELS = 178_956_970

# Of a JPEG. Encoders write about 10, and libtiff has the same limit. The largest images may have
# fewer, for the time of decoding goes with the pixels of all scans.
MAX_SCANS = 100
SCANS_OF_LARGEST = 20

# Of a PNG, compressed ones. Pillow limits their bytes; other decoders take 30 ms for each.
MAX_TEXTS = 20
TEXT = b"TXt"  # of zTXt and iTXt

# Of a header: Pillow reads about 50 times for a JPEG, and once for each byte of a PPM's comment.
MAX_READS = 3000
# While pixels are decoded one more is allowed for so many bytes of the file, of which a read as a
# rule takes thousands.
BYTES_A_READ = 16

SCAN = b"\xff\xda"
START_OF_SCAN, END_OF_IMAGE = 0xDA, 0xD9
# Inside a scan FF00 is a value, and no segment follows FFD0 to FFD7.
MARKER = re.compile(rb"\xff([^\x00\xd0-\xd7\xff])")
NO_SEGMENT = (0x01, 0xD8)
MAX_MARKERS = 10_000


class ReadingLimitError(ValueError):
    """A file asks its reader for more than any program writes."""


class LimitedReader(io.BufferedReader):
    """The bytes of an image file, of which only so much can be read before pixels are decoded."""

    def __init__(self, content: bytes | BinaryIO):
        """Takes a file as bytes, or open and without a buffer, which it closes at the end."""
        super().__init__(io.BytesIO(content) if isinstance(content, bytes) else content)  # pyright: ignore
        self.size = self.seek(0, io.SEEK_END)
        self.seek(0)
        if self.size > MAX_BYTES:
            raise ReadingLimitError(
                f"it has {self.size:,} bytes, more than the {MAX_BYTES:,} that are read"
            )
        self._reads, self._max_reads = 0, MAX_READS

    def read(self, size: int | None = -1, /) -> bytes:
        """Some bytes; see `io.BufferedReader`."""
        self._reads += 1
        if self._reads > self._max_reads:
            raise ReadingLimitError("it is in more pieces than any program writes")
        return super().read(size)

    def whole(self) -> bytes:
        """All bytes of the file; its place stays."""
        place = self.tell()
        self.seek(0)
        content = super().read()
        self.seek(place)
        return content

    def allow_pixels(self) -> None:
        """Allows for the reads that decoding takes."""
        self._reads, self._max_reads = 0, MAX_READS + self.size // BYTES_A_READ


def check_scans(content: bytes, num_pixels: int) -> None:
    """Refuses a JPEG whose scans would take minutes to decode.

    Raises:
      ReadingLimitError: it has too many of them.
    """
    limit = min(MAX_SCANS, SCANS_OF_LARGEST * MAX_PIXELS // max(num_pixels, 1))
    if not has_few_scans(content) and _num_scans(content, limit) > limit:
        raise ReadingLimitError(f"its pixels are in more than {limit} scans")


def has_few_scans(content: bytes) -> bool:
    """Whether a JPEG of any size has not too many scans; true for nearly all."""
    # Metadata, and what some phones append, may hold the marker by chance as well.
    return content.count(SCAN) <= SCANS_OF_LARGEST


def has_few_texts(content: bytes) -> bool:
    """Whether a PNG has not too many compressed texts; true for nearly all."""
    return content.count(TEXT) <= MAX_TEXTS


def _num_scans(content: bytes, most: int) -> int:
    """The number of scans of a JPEG, or `most` + 1 where they are more."""
    scans, place = 0, 2
    for _ in range(MAX_MARKERS):
        found = MARKER.search(content, place)
        if not found or found[1][0] == END_OF_IMAGE or scans > most:
            return scans
        marker, place = found[1][0], found.end()
        scans += marker == START_OF_SCAN
        if marker not in NO_SEGMENT:
            place += int.from_bytes(content[place : place + 2], "big")
    return most + 1


class _CountedBytes:
    """A file of which not much more can be read than it has, and not in too many pieces."""

    def __init__(self, file: IO[bytes]):
        self._file, self.seek, self.tell = file, file.seek, file.tell
        place = file.tell()
        self._rest = 2 * file.seek(0, io.SEEK_END) + io.DEFAULT_BUFFER_SIZE
        self._reads = 0
        file.seek(place)

    def read(self, size: int = -1) -> bytes:
        content = self._file.read(size)
        self._rest -= len(content)
        self._reads += 1
        if self._rest < 0 or self._reads > MAX_READS:
            raise ReadingLimitError("its tags hold more than the file")
        return content


_load_tags = TiffImagePlugin.ImageFileDirectory_v2.load


def _load_limited(self: TiffImagePlugin.ImageFileDirectory_v2, fp: IO[bytes]) -> None:
    _load_tags(self, _CountedBytes(fp))  # pyright: ignore[reportArgumentType]


# For EXIF, in all formats, Pillow takes no file in place of bytes, so that no reader can be given.
TiffImagePlugin.ImageFileDirectory_v2.load = _load_limited
