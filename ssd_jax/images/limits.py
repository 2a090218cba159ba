"""Limits that keep a hostile image file from holding its reader for minutes, or taking gigabytes.

A file of few pixels may have 20,000 scans, each of which is decoded over all of the image; hundreds
of thousands of segments, which Pillow joins one by one; or thousands of tags that all point to the
same megabytes. No program writes such files, and each limit is far above what programs write.
"""

import contextlib
import contextvars
import io
import re
from collections.abc import Iterator
from typing import IO, BinaryIO

from PIL import Image, TiffImagePlugin

# Larger files are refused unread: those of cameras have less than 100 MB.
MAX_BYTES = 400_000_000

# Checked in the header, before anything is decoded; of images and of the frames of videos.
MAX_PIXELS = 110_000_000
MAX_SIDE = 1_000_000  # pixels; rows are worked on one at a time

# Bytes that opening an image may take, the file apart. Also checked in the header: of kinds of
# images that take more than the 4 bytes a pixel of an RGB image in Pillow, fewer pixels are read.
MAX_MEMORY = 470_000_000
BYTES_OF_RGB = 4
BYTES_BY_MODE = {"1": 1, "L": 1, "P": 1, "I;16": 2, "I;16L": 2, "I;16B": 2, "I;16N": 2}
# What decoders hold at their worst, the image included.
BYTES_BY_FORMAT = {"WEBP": 20, "AVIF": 20, "JPEG2000": 24}

# Of a JPEG. Encoders write about 10, and libtiff has the same limit. The largest images may have
# fewer, for the time of decoding goes with the pixels of all scans.
MAX_SCANS = 100
MAX_SCANNED_PIXELS = 3_600_000_000
FEW_SCANS = 20  # which any image may have

# Of a PNG, compressed ones. Pillow limits their bytes; other decoders take 30 ms for each.
MAX_TEXTS = 20
TEXT = b"TXt"  # of zTXt and iTXt

# Of a header: Pillow reads about 50 times for a JPEG, and once for each byte of a PPM's comment.
MAX_READS = 3000
# While pixels are decoded one more is allowed for so many bytes of the file, of which a read as a
# rule takes thousands.
BYTES_A_READ = 16

SCAN = b"\xff\xda"
TILE_WIDTH, TILE_LENGTH = 322, 323  # tags of TIFF

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


def check_scans(content: bytes, num_pixels: int) -> int:
    """Refuses a JPEG whose scans would take minutes to decode.

    Returns:
      The number of its scans.

    Raises:
      ReadingLimitError: it has too many of them.
    """
    limit = min(MAX_SCANS, MAX_SCANNED_PIXELS // max(num_pixels, 1))
    scans = _num_scans(content, limit) if content.count(SCAN) > 1 else 1
    if scans > limit:
        raise ReadingLimitError(f"its pixels are in more than {limit} scans")
    return scans


def has_few_texts(content: bytes) -> bool:
    """Whether a PNG has not too many compressed texts; true for nearly all."""
    return content.count(TEXT) <= MAX_TEXTS


def check_memory(image: Image.Image, is_turned: bool, scans: int) -> None:
    """Refuses an image that would take more than `MAX_MEMORY` to open.

    Args:
      image: not decoded yet.
      is_turned: whether EXIF turns or mirrors it.
      scans: of a JPEG; 1 for others.

    Raises:
      ReadingLimitError: it has too many pixels for its kind.
    """
    width, height = image.size
    decoded = BYTES_BY_MODE.get(image.mode, BYTES_OF_RGB)
    # Several scans are put together as 2 bytes a value.
    decoding = decoded + (2 * len(image.getbands()) if scans > 1 else 0)
    decoding = max(decoding, BYTES_BY_FORMAT.get(str(image.format), 0)) + _bytes_of_pieces(image)
    if is_deep_colour(image):
        decoded = 2 * decoded + 1  # the lower bytes as well, and strips of whole numbers
    is_plain = image.mode == "RGB" and not image.has_transparency_data and not is_turned
    opening = decoded if is_plain and not is_deep_colour(image) else decoded + BYTES_OF_RGB
    if is_turned:
        opening = max(opening, 2 * BYTES_OF_RGB)
    most = int(MAX_MEMORY / max(decoding, opening))
    if width * height > most:
        raise ReadingLimitError(
            f"it has {width} × {height} pixels, more than the {most:,} that are read of an image "
            "of its kind: make it smaller, or save it as a baseline JPEG or a PNG, in RGB of 8 "
            "bits, upright"
        )


def is_deep_colour(image: Image.Image) -> bool:
    """Whether it has colours of 16 bits, of which Pillow decodes the upper 8; not decoded yet."""
    if not getattr(image, "tile", None) or image.mode not in ("RGB", "RGBA"):
        return False
    args = image.tile[0][3]  # pyright: ignore[reportAttributeAccessIssue]
    mode = args if isinstance(args, str) else str(*args[:1])
    return mode.startswith(f"{image.mode};16")


def _bytes_of_pieces(image: Image.Image) -> float:
    """Bytes a pixel of the image that the strip or tile of a TIFF takes, or the text of a PPM."""
    tiles = getattr(image, "tile", None)
    if image.format == "PPM" and tiles and tiles[0][0] != "raw":
        return 8.0  # decoded in Python
    if not isinstance(image, TiffImagePlugin.TiffImageFile) or not tiles:
        return 0.0
    if tiles[0][0] != "libtiff":
        return 0.0
    tags, (width, height) = image.tag_v2, image.size
    rows = min(int(tags.get(TiffImagePlugin.ROWSPERSTRIP, height)), height)
    pixels = max(width * rows, int(tags.get(TILE_WIDTH, 0)) * int(tags.get(TILE_LENGTH, 0)))
    bits = tags.get(TiffImagePlugin.BITSPERSAMPLE, (8,))
    return max(1, sum(bits) / 8) * pixels / (width * height)


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
_tags_are_limited = contextvars.ContextVar("tags are limited", default=False)


@contextlib.contextmanager
def limited_tags() -> Iterator[None]:
    """Limits what tags of TIFF and EXIF may hold that this thread reads in the block."""
    token = _tags_are_limited.set(True)
    try:
        yield
    finally:
        _tags_are_limited.reset(token)


def _load_limited(self: TiffImagePlugin.ImageFileDirectory_v2, fp: IO[bytes]) -> None:
    file = _CountedBytes(fp) if _tags_are_limited.get() else fp
    _load_tags(self, file)  # pyright: ignore[reportArgumentType]


# For EXIF, in all formats, Pillow takes no file in place of bytes, so that no reader can be given.
TiffImagePlugin.ImageFileDirectory_v2.load = _load_limited
