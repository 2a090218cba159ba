"""Opens image files safely, upright and in RGB. Needs Pillow and NumPy only.

Training, prediction, evaluation and all diagnostics open images here, so that the network always
gets the same pixels.
"""

import contextlib
import io
import os
import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image, UnidentifiedImageError

from ssd_jax.errors import StoreError, UserError, reason_of
from ssd_jax.images.limits import (
    MAX_PIXELS,
    MAX_SIDE,
    LimitedReader,
    check_memory,
    check_scans,
    has_few_texts,
    limited_tags,
)
from ssd_jax.images.sixteen_bits import from_two_bytes, lower_bytes, num_bits, to_8_bits
from ssd_jax.storage.files import open_file, scheme_hint

# Pillow warns at half of its limit; `MAX_PIXELS` is below that limit.
warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)

# Images of more pixels are decoded one at a time, so that memory stays bounded.
LARGE = 16_000_000
# They are converted in strips: converting the whole image would take the memory of several images.
STRIP_PIXELS = 1_000_000

# The accepted formats; the file name does not matter. Not all of Pillow's formats: for EPS it would
# start another program. Older versions of Pillow have no AVIF.
Image.init()
FORMATS = [
    name
    for name in ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "PPM", "JPEG2000", "AVIF")
    if name in Image.OPEN
]

# Their decoders keep several images in memory as long as Pillow's image of the file exists.
KEEPING_FORMATS = ("WEBP", "AVIF", "JPEG2000")

# By EXIF's orientation, the position of row 0 and column 0 of the file.
ORIENTATION_TAG = 0x0112
ORIENTATIONS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
SIDEWAYS = (5, 6, 7, 8)  # the orientations that exchange width and height


def open_image(
    file: str | Path | bytes, name: str = "", max_pixels: int = MAX_PIXELS
) -> Image.Image:
    """Reads an image as RGB, 8 bits per channel, upright; the first frame of an animation.

    Args:
      file: a path, or the bytes of a file.
      name: its name in messages; empty = the path.
      max_pixels: maximum number of pixels, checked before decoding.

    Raises:
      UserError: the file is damaged, incomplete or no image, or exceeds a limit of `limits.py`.
    """
    with _opened(file, name, max_pixels, decodes=True) as image:
        return _own_to_rgb(image)


def gray_thumbnail(file: str | Path | bytes, side: int, name: str = "") -> np.ndarray:
    """`[side, side] uint8`, upright: the brightness of an image, stretched to a square.

    Much faster than `open_image`: a JPEG is decoded only at the low resolution that is needed.

    Raises:
      UserError: see `open_image`.
    """
    with _opened(file, name, decodes=True) as image:
        # Decodes at twice the side or more, so that it is only reduced afterwards.
        drafted = image.draft("L", (2 * side, 2 * side))
        if image.mode == "L" and not _is_special(image):
            # If the sides are no multiples of the scale, the draft is larger than the image.
            part = drafted[1] if drafted else (0, 0, *image.size)
            small = image.resize((side, side), Image.Resampling.BICUBIC, part)
        else:
            small = _own_to_rgb(image).convert("L").resize((side, side), Image.Resampling.BICUBIC)
        return np.asarray(small)


def size_in_file(file: str | Path | bytes, name: str = "") -> tuple[int, int]:
    """(height, width) as stored, from the header alone; see `open_image` for the rest."""
    with _opened(file, name) as image:
        return image.height, image.width


def format_of(file: str | Path | bytes, name: str = "") -> str:
    """The format in the header of a file, one of `FORMATS`; see `open_image` for the rest."""
    with _opened(file, name) as image:
        return "JPEG" if image.format == "MPO" else str(image.format)


def is_turned_by_exif(file: str | Path | bytes, name: str = "") -> bool:
    """Whether EXIF turns or mirrors the stored image; see `open_image` for the rest."""
    with _opened(file, name) as image:
        return _orientation(image) in ORIENTATIONS


def upright_size(file: str | Path | bytes, name: str = "") -> tuple[int, int]:
    """(height, width) of the result of `open_image`, usually without decoding."""
    return size_and_turned(file, name)[0]


def size_and_turned(file: str | Path | bytes, name: str = "") -> tuple[tuple[int, int], bool]:
    """`upright_size`, and whether EXIF exchanges width and height of the stored image."""
    with _opened(file, name) as image:
        is_turned = _orientation(image) in SIDEWAYS
        width, height = image.size
        return ((width, height) if is_turned else (height, width)), is_turned


def to_rgb(image: Image.Image) -> Image.Image:
    """Any image as upright RGB; the same object if it is upright RGB already.

    16 bits are scaled to 8 (see `sixteen_bits.py`), transparent pixels are blended with white,
    colour profiles are ignored.

    Raises:
      ValueError: the range of its numbers is not known, or it cannot be decoded.
    """
    lower = lower_bytes(image)
    image.load()  # some formats store their orientation after the pixels
    return _turned(_in_rgb(image, lower), _orientation(image))


def _own_to_rgb(image: Image.Image) -> Image.Image:
    """`to_rgb` of an image that is not used afterwards, so that its memory can be freed early."""
    lower = lower_bytes(image)
    image.load()
    orientation = _orientation(image)
    check_memory(image, orientation in ORIENTATIONS, 1)
    rgb = _in_rgb(image, lower)
    if rgb is image and image.format in KEEPING_FORMATS:
        rgb = image.copy()
    if rgb is not image:
        image.close()
    rgb = _turned(rgb, orientation)
    rgb.info = {}  # for example the orientation, which is no longer correct
    return rgb


def _in_rgb(image: Image.Image, lower: Image.Image | None) -> Image.Image:
    """A decoded image as RGB, not turned; the same object if it is RGB already."""
    if image.mode == "F":
        raise ValueError("its pixels are fractions of unknown range: save it with 8 or 16 bits")
    if image.mode == "RGB" and lower is None and not image.has_transparency_data:
        return image
    if image.width * image.height <= STRIP_PIXELS:
        return _converted(image, lower, num_bits(image, lower))
    return _converted_in_strips(image, lower)


def _turned(image: Image.Image, orientation: int) -> Image.Image:
    """An image, turned as EXIF says; the same object if it is upright."""
    if orientation not in ORIENTATIONS:
        return image
    turned = image.transpose(ORIENTATIONS[orientation])
    turned.info = {}
    return turned


def _converted_in_strips(image: Image.Image, lower: Image.Image | None) -> Image.Image:
    """`_converted` with little memory besides that of the result."""
    bits = max(num_bits(upper, below) for _, upper, below in _strips(image, lower))
    converted = Image.new("RGB", image.size)
    for top, strip, lower_strip in _strips(image, lower):
        converted.paste(_converted(strip, lower_strip, bits), (0, top))
    return converted


def _strips(
    image: Image.Image, lower: Image.Image | None
) -> Iterator[tuple[int, Image.Image, Image.Image | None]]:
    """Yields the strips of an image: the first row, the pixels and the lower bytes."""
    step = max(1, STRIP_PIXELS // image.width)
    for top in range(0, image.height, step):
        box = (0, top, image.width, min(top + step, image.height))
        yield top, image.crop(box), lower and lower.crop(box)


def _converted(image: Image.Image, lower: Image.Image | None, bits: int) -> Image.Image:
    """An image as RGB of 8 bits, with transparent pixels on white.

    Args:
      image: of any mode but F.
      lower: for 16 bits per channel the lower bytes; then `image` has the upper bytes.
      bits: for images of 16 bits: the number of bits that the whole file uses.
    """
    if image.mode.startswith("I"):
        image = Image.fromarray(to_8_bits(np.asarray(image), bits))
    elif lower is not None:
        alpha = np.asarray(image)[..., 3:]
        values = to_8_bits(from_two_bytes(image, lower), bits)
        image = Image.fromarray(np.concatenate([values, alpha], axis=2))
    if image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return image.convert("RGB")


def upright_file(encoded: bytes) -> bytes:
    """An image file that TensorFlow decodes to the same pixels as `open_image`.

    Returns:
      The file itself if it is a JPEG or a plain PNG and EXIF does not turn it, otherwise a PNG file
      of its image; empty if it cannot be opened.
    """
    try:
        with _identify(encoded, MAX_PIXELS, decodes=True) as image:
            simple = image.format == "JPEG" or _is_plain_png(encoded, image)
            if simple and _orientation(image) not in ORIENTATIONS:
                return encoded
            file = io.BytesIO()
            _own_to_rgb(image).save(file, "PNG", compress_level=1)
            return file.getvalue()
    except Exception:
        return b""  # `open_image` reports the error


@contextlib.contextmanager
def _opened(
    file: str | Path | bytes, name: str, max_pixels: int = MAX_PIXELS, decodes: bool = False
) -> Iterator[Image.Image]:
    """An image that is not decoded yet; any error becomes a `UserError`."""
    try:
        with _identify(file, max_pixels, decodes) as image:
            yield image
    except StoreError:  # the image may be intact
        raise
    except Exception as error:  # decoders raise all kinds of errors for damaged files
        raise UserError(f"{name or file} cannot be read{_reason(error, file)}") from error


@contextlib.contextmanager
def _identify(
    file: str | Path | bytes, max_pixels: int, decodes: bool = False
) -> Iterator[Image.Image]:
    """Reads the header of an image, and checks its limits; pass `decodes` to decode it later."""
    content = file if isinstance(file, bytes) else open_file(file, 0, reads_all=decodes)
    with (
        LimitedReader(content) as reader,
        limited_tags(),
        Image.open(reader, formats=FORMATS) as image,
    ):
        width, height = image.size
        if width * height > max_pixels:
            raise ValueError(f"it has {width} × {height} pixels, more than {max_pixels:,} in all")
        if max(width, height) > MAX_SIDE:
            raise ValueError(f"it has {width} × {height} pixels, more than {MAX_SIDE:,} in a row")
        if decodes:
            scans = 1
            if image.format in ("JPEG", "MPO"):
                content = file if isinstance(file, bytes) else reader.whole()
                scans = check_scans(content, width * height)
                del content
            # For a PNG without EXIF in the header, Pillow would read all pixels to search for it.
            is_known = image.format != "PNG" or "exif" in image.info
            check_memory(image, is_known and _orientation(image) in ORIENTATIONS, scans)
            reader.allow_pixels()
        yield image


def _is_plain_png(encoded: bytes, image: Image.Image) -> bool:
    """Whether an image is a PNG of 8-bit gray or RGB, without transparency and with few texts."""
    is_simple = encoded[24:26] in (b"\x08\x00", b"\x08\x02") and has_few_texts(encoded)
    return image.format == "PNG" and is_simple and not image.has_transparency_data


def _orientation(image: Image.Image) -> int:
    try:
        return image.getexif().get(ORIENTATION_TAG, 1)
    except StoreError:
        raise
    except Exception:  # a damaged EXIF block does not turn the image
        return 1


def _is_special(image: Image.Image) -> bool:
    """Whether EXIF turns an image, or the image is partly transparent."""
    return _orientation(image) in ORIENTATIONS or image.has_transparency_data


def _reason(error: Exception, file: str | Path | bytes) -> str:
    """The end of a sentence about a file that cannot be read."""
    if isinstance(error, UnidentifiedImageError):
        if not (len(file) if isinstance(file, bytes) else os.path.getsize(file)):
            return ": it is empty"
        return f": it is no image of a known format ({', '.join(FORMATS)})"
    if isinstance(error, Image.DecompressionBombError):
        return f": it has more than {MAX_PIXELS:,} pixels"
    if isinstance(error, OSError) and str(error).startswith("image file is truncated"):
        return ", because it is truncated"
    if isinstance(error, FileNotFoundError) and error.filename:
        return f": {reason_of(error)}{scheme_hint(error.filename)}"
    return f": {reason_of(error)}"
