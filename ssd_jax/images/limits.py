"""Limits on image files, so that a malicious file does not take minutes or gigabytes to read.

A small file may have 20,000 scans, each of which covers the whole image; hundreds of thousands of
segments, which Pillow joins one by one; or thousands of tags that point to the same megabytes. No
real program writes such files: each limit is far above the values of real files.
"""

import contextlib
import contextvars
import io
import re
from collections.abc import Iterator
from typing import IO, BinaryIO

from PIL import Image, TiffImagePlugin

# Larger files are not read. Files of cameras are smaller than 100 MB.
MAX_BYTES = 400_000_000

# Checked in the header, before decoding, for images and for frames of videos.
MAX_PIXELS = 110_000_000
MAX_SIDE = 1_000_000  # pixels; rows are processed one at a time

# Bytes that opening an image may take, without the file itself. Also checked in the header: an RGB
# image takes 4 bytes per pixel in Pillow; kinds of images that take more may have fewer pixels.
MAX_MEMORY = 470_000_000
BYTES_OF_RGB = 4
BYTES_BY_MODE = {"1": 1, "L": 1, "P": 1, "I;16": 2, "I;16L": 2, "I;16B": 2, "I;16N": 2}
# Bytes per pixel of decoders in the worst case, including the image.
BYTES_BY_FORMAT = {"WEBP": 20, "AVIF": 20, "JPEG2000": 24}

# Scans of a JPEG. Encoders write about 10, and libtiff has the same limit. The largest images may
# have fewer, because the time of decoding grows with the pixels of all scans.
MAX_SCANS = 100
MAX_SCANNED_PIXELS = 3_600_000_000
FEW_SCANS = 20  # allowed for any image

# Compressed texts of a PNG. Pillow limits their bytes; other decoders take 30 ms for each.
MAX_TEXTS = 20
TEXT = b"TXt"  # of zTXt and iTXt

# Read calls for a header: about 50 for a JPEG, and one for each byte of a PPM's comment.
MAX_READS = 3000
# While pixels are decoded, one more read call is allowed for this many bytes of the file. A call
# usually reads thousands.
BYTES_A_READ = 16

SCAN = b"\xff\xda"
TILE_WIDTH, TILE_LENGTH = 322, 323  # tags of TIFF

START_OF_SCAN, END_OF_IMAGE = 0xDA, 0xD9
# Inside a scan FF00 is a value, and no segment follows FFD0 to FFD7.
MARKER = re.compile(rb"\xff([^\x00\xd0-\xd7\xff])")
NO_SEGMENT = (0x01, 0xD8)
MAX_MARKERS = 10_000


class ReadingLimitError(ValueError):
    """A file exceeds a limit of this module."""


class LimitedReader(io.BufferedReader):
    """The bytes of an image file, with a limit on read calls before and during decoding."""

    def __init__(self, content: bytes | BinaryIO):
        """Reads the bytes of a file, or an open file without a buffer, which it closes later."""
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
        """All bytes of the file; the current position stays the same."""
        place = self.tell()
        self.seek(0)
        content = super().read()
        self.seek(place)
        return content

    def allow_pixels(self) -> None:
        """Allows the read calls of decoding."""
        self._reads, self._max_reads = 0, MAX_READS + self.size // BYTES_A_READ


def check_scans(content: bytes, num_pixels: int) -> int:
    """Counts the scans of a JPEG, and checks their number, because each scan takes time.

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
    """Whether a PNG has at most `MAX_TEXTS` compressed texts."""
    return content.count(TEXT) <= MAX_TEXTS


def check_memory(image: Image.Image, is_turned: bool, scans: int) -> None:
    """Checks that opening an image takes at most `MAX_MEMORY`.

    Args:
      image: not decoded yet.
      is_turned: whether EXIF turns or mirrors it.
      scans: of a JPEG; 1 for others.

    Raises:
      ReadingLimitError: it has too many pixels for its kind.
    """
    width, height = image.size
    decoded = BYTES_BY_MODE.get(image.mode, BYTES_OF_RGB)
    # Several scans are combined in memory with 2 bytes per value.
    decoding = decoded + (2 * len(image.getbands()) if scans > 1 else 0)
    decoding = max(decoding, BYTES_BY_FORMAT.get(str(image.format), 0)) + _bytes_of_pieces(image)
    if is_deep_colour(image):
        decoded = 2 * decoded + 1  # also the lower bytes, and strips of integers
    is_plain = image.mode == "RGB" and not image.has_transparency_data and not is_turned
    opening = decoded if is_plain and not is_deep_colour(image) else decoded + BYTES_OF_RGB
    if is_turned:
        opening = max(opening, 2 * BYTES_OF_RGB)
    most = int(MAX_MEMORY / max(decoding, opening))
    if width * height > most:
        raise ReadingLimitError(
            f"it has {width} × {height} pixels, more than the {most:,} allowed for an image of "
            "its kind: make it smaller, or save it as a baseline JPEG or a PNG, in RGB of 8 bits, "
            "upright"
        )


def is_deep_colour(image: Image.Image) -> bool:
    """Whether an image, not decoded yet, has 16 bits per channel; Pillow decodes the upper 8."""
    if not getattr(image, "tile", None) or image.mode not in ("RGB", "RGBA"):
        return False
    args = image.tile[0][3]  # pyright: ignore[reportAttributeAccessIssue]
    mode = args if isinstance(args, str) else str(*args[:1])
    return mode.startswith(f"{image.mode};16")


def _bytes_of_pieces(image: Image.Image) -> float:
    """Bytes per pixel for the strip or tile of a TIFF, or the text of a PPM."""
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
    """The number of scans of a JPEG, at most `most` + 1."""
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
    """A file with limits on the bytes that are read, about twice its size, and on read calls."""

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
    """Limits the tags of TIFF and EXIF that this thread reads in the block."""
    token = _tags_are_limited.set(True)
    try:
        yield
    finally:
        _tags_are_limited.reset(token)


def _load_limited(self: TiffImagePlugin.ImageFileDirectory_v2, fp: IO[bytes]) -> None:
    file = _CountedBytes(fp) if _tags_are_limited.get() else fp
    _load_tags(self, file)  # pyright: ignore[reportArgumentType]


# Pillow accepts EXIF only as bytes, not as a file object, so a limited reader cannot be passed.
TiffImagePlugin.ImageFileDirectory_v2.load = _load_limited
