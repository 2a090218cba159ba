"""Opens image files safely, upright and in RGB. Pillow and NumPy alone.

Training, prediction, evaluation and all diagnostics open images here, so that a network is given
the same pixels by each.
"""

import contextlib
import io
import os
import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image, UnidentifiedImageError

from ssd_jax.errors import UserError, reason_of
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

# Pillow warns of images of half of what it refuses; `MAX_PIXELS` is below that.
warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)

# Images of more pixels are decoded one at a time, so that memory stays bounded.
LARGE = 16_000_000
# They are converted a strip at a time: as a whole that would take several images.
STRIP_PIXELS = 1_000_000

# What is tried, whatever the name says. Not all that Pillow knows: for EPS it would start another
# program. Older ones know no AVIF.
Image.init()
FORMATS = [
    name
    for name in ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "PPM", "JPEG2000", "AVIF")
    if name in Image.OPEN
]

# Their decoders hold several images as long as Pillow's image of the file is there.
KEEPING_FORMATS = ("WEBP", "AVIF", "JPEG2000")

# By EXIF's number for where row 0 and column 0 of the file are.
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
SIDEWAYS = (5, 6, 7, 8)  # of these, the ones that exchange width and height


def open_image(
    file: str | Path | bytes, name: str = "", max_pixels: int = MAX_PIXELS
) -> Image.Image:
    """Reads an image as RGB, 8 bits a channel, upright; of an animation the first frame.

    Args:
      file: a path, or the bytes of a file.
      name: what messages call it; the path where empty.
      max_pixels: larger images are refused before they are decoded.

    Raises:
      UserError: it is damaged, incomplete, no image, or beyond one of the limits of `limits.py`.
    """
    with _opened(file, name, max_pixels, decodes=True) as image:
        return _own_to_rgb(image)


def gray_thumbnail(file: str | Path | bytes, side: int, name: str = "") -> np.ndarray:
    """`[side, side] uint8`, upright: the brightness of an image that was stretched to a square.

    Much quicker than `open_image`: of a JPEG only what so small an image needs is decoded.

    Raises:
      UserError: see `open_image`.
    """
    with _opened(file, name, decodes=True) as image:
        # What is decoded is at least so large, so that nothing is enlarged.
        drafted = image.draft("L", (2 * side, 2 * side))
        if image.mode == "L" and not _is_special(image):
            # Where the sides are no multiples of the scale, the draft reaches beyond the image.
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
    """The format that a file's header tells, of `FORMATS`; see `open_image` for the rest."""
    with _opened(file, name) as image:
        return "JPEG" if image.format == "MPO" else str(image.format)


def is_turned_by_exif(file: str | Path | bytes, name: str = "") -> bool:
    """Whether EXIF turns or mirrors what the file stores; see `open_image` for the rest."""
    with _opened(file, name) as image:
        return _orientation(image) in ORIENTATIONS


def upright_size(file: str | Path | bytes, name: str = "") -> tuple[int, int]:
    """(height, width) of what `open_image` gives, as a rule without decoding it; see there."""
    return size_and_turned(file, name)[0]


def size_and_turned(file: str | Path | bytes, name: str = "") -> tuple[tuple[int, int], bool]:
    """`upright_size`, and whether EXIF exchanges width and height of what the file stores."""
    with _opened(file, name) as image:
        is_turned = _orientation(image) in SIDEWAYS
        width, height = image.size
        return ((width, height) if is_turned else (height, width)), is_turned


def to_rgb(image: Image.Image) -> Image.Image:
    """Any image as RGB, upright; the same object where it is that already.

    16 bits are scaled to 8 (see `sixteen_bits.py`), what is transparent is laid on white, colour
    profiles are ignored.

    Raises:
      ValueError: the range of its numbers is not known, or it cannot be decoded.
    """
    lower = lower_bytes(image)
    image.load()  # some formats have their orientation behind the pixels
    return _turned(_in_rgb(image, lower), _orientation(image))


def _own_to_rgb(image: Image.Image) -> Image.Image:
    """`to_rgb` of an image that nothing else needs: its memory is given back on the way."""
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
    rgb.info = {}  # an orientation that is no longer true, above all
    return rgb


def _in_rgb(image: Image.Image, lower: Image.Image | None) -> Image.Image:
    """A decoded image as RGB, not turned; the same object where it is that already."""
    if image.mode == "F":
        raise ValueError("its pixels are fractions of unknown range: save it with 8 or 16 bits")
    if image.mode == "RGB" and lower is None and not image.has_transparency_data:
        return image
    if image.width * image.height <= STRIP_PIXELS:
        return _converted(image, lower, num_bits(image, lower))
    return _converted_in_strips(image, lower)


def _turned(image: Image.Image, orientation: int) -> Image.Image:
    """An image, turned as EXIF says; the same object where it is upright."""
    if orientation not in ORIENTATIONS:
        return image
    turned = image.transpose(ORIENTATIONS[orientation])
    turned.info = {}
    return turned


def _converted_in_strips(image: Image.Image, lower: Image.Image | None) -> Image.Image:
    """`_converted` with little memory beside that of the result."""
    bits = max(num_bits(upper, below) for _, upper, below in _strips(image, lower))
    converted = Image.new("RGB", image.size)
    for top, strip, lower_strip in _strips(image, lower):
        converted.paste(_converted(strip, lower_strip, bits), (0, top))
    return converted


def _strips(
    image: Image.Image, lower: Image.Image | None
) -> Iterator[tuple[int, Image.Image, Image.Image | None]]:
    """The first row, the pixels and the lower bytes of one piece of an image after the other."""
    step = max(1, STRIP_PIXELS // image.width)
    for top in range(0, image.height, step):
        box = (0, top, image.width, min(top + step, image.height))
        yield top, image.crop(box), lower and lower.crop(box)


def _converted(image: Image.Image, lower: Image.Image | None, bits: int) -> Image.Image:
    """An image as RGB of 8 bits, what is transparent on white.

    Args:
      image: of any mode but F.
      lower: of 16 bits a channel the lower ones, where `image` has the upper ones.
      bits: that the numbers of the whole file use, if they have 16.
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
    """An image file as TensorFlow decodes it to what `open_image` gives.

    Returns:
      The file itself where that is a JPEG or a plain PNG and EXIF does not turn it, otherwise a
      PNG file of its image; nothing where it cannot be opened.
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
        return b""  # `open_image` says what is wrong


@contextlib.contextmanager
def _opened(
    file: str | Path | bytes, name: str, max_pixels: int = MAX_PIXELS, decodes: bool = False
) -> Iterator[Image.Image]:
    """An image with nothing decoded yet; a `UserError` for whatever goes wrong with it."""
    try:
        with _identify(file, max_pixels, decodes) as image:
            yield image
    except Exception as error:  # decoders raise all kinds of errors for damaged files
        raise UserError(f"{name or file} cannot be read: {_reason(error, file)}") from error


@contextlib.contextmanager
def _identify(
    file: str | Path | bytes, max_pixels: int, decodes: bool = False
) -> Iterator[Image.Image]:
    """Reads the header; nothing is decoded yet, but may be then if `decodes`."""
    content = file if isinstance(file, bytes) else open_file(file, buffering=0)
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
            # Of a PNG without EXIF in the header, Pillow would look behind the pixels for it.
            is_known = image.format != "PNG" or "exif" in image.info
            check_memory(image, is_known and _orientation(image) in ORIENTATIONS, scans)
            reader.allow_pixels()
        yield image


def _is_plain_png(encoded: bytes, image: Image.Image) -> bool:
    """Whether it has 8 bits of gray or RGB, nothing is transparent, and its texts are few."""
    is_simple = encoded[24:26] in (b"\x08\x00", b"\x08\x02") and has_few_texts(encoded)
    return image.format == "PNG" and is_simple and not image.has_transparency_data


def _orientation(image: Image.Image) -> int:
    try:
        return image.getexif().get(ORIENTATION_TAG, 1)
    except Exception:  # a damaged EXIF block leaves the image as it is
        return 1


def _is_special(image: Image.Image) -> bool:
    """Whether it is turned by EXIF, or partly transparent."""
    return _orientation(image) in ORIENTATIONS or image.has_transparency_data


def _reason(error: Exception, file: str | Path | bytes) -> str:
    if isinstance(error, UnidentifiedImageError):
        if not (len(file) if isinstance(file, bytes) else os.path.getsize(file)):
            return "it is empty"
        return f"it is no image of a known format ({', '.join(FORMATS)})"
    if isinstance(error, Image.DecompressionBombError):
        return f"it has more than {MAX_PIXELS:,} pixels"
    if isinstance(error, FileNotFoundError) and error.filename:
        return reason_of(error) + scheme_hint(error.filename)
    return reason_of(error)
