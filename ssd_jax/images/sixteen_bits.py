"""Converts images with 16 bits per channel to 8 bits. Needs Pillow and NumPy only.

The scale depends on the range that the file uses. Let n be the number of bits of its largest value:
the upper 8 of n bits are kept. Files of a camera with 10 or 12 bits therefore use the whole range
of brightness. With 8 bits values do not change, fewer bits are scaled up, and 16 bits lose their
lower 8. The factor is a power of two, so that images of one camera keep their relative brightness,
except for images that are darker than half of the range.
"""

import sys

import numpy as np
from PIL import Image

from ssd_jax.images.limits import is_deep_colour


def num_bits(image: Image.Image, lower: Image.Image | None) -> int:
    """The number of bits of the largest value in an image of 16 bits; 0 for other images."""
    if lower is not None:
        values = from_two_bytes(image, lower)
    elif image.mode.startswith("I"):
        values = np.asarray(image)
    else:
        return 0
    if values.min() < 0 or values.max() > 0xFFFF:
        raise ValueError("its pixels have 32 bits: save it with 8 or 16 bits")
    return int(values.max()).bit_length()


def to_8_bits(values: np.ndarray, num_bits: int) -> np.ndarray:
    """Whole numbers below 2¹⁶ as uint8, scaled by a power of two: see the top of this file."""
    surplus = num_bits - 8
    scaled = values >> surplus if surplus >= 0 else values << -surplus
    return scaled.astype(np.uint8)


def lower_bytes(image: Image.Image) -> Image.Image | None:
    """The lower bytes of a colour image of 16 bits; Pillow itself decodes only the upper bytes.

    Args:
      image: not decoded yet.

    Returns:
      An image of the same mode; None for any other image.
    """
    file = getattr(image, "fp", None)
    if file is None or not is_deep_colour(image) or "transparency" in image.info:
        return None
    form = image.tile[0][3]  # pyright: ignore[reportAttributeAccessIssue]
    _, _, order = (form if isinstance(form, str) else str(*form[:1])).partition(";16")
    # In the other byte order, the lower bytes are decoded instead of the upper ones.
    is_big = order == "B" or (order == "N" and sys.byteorder == "big")
    name = f"{image.mode};16{'L' if is_big else 'B'}"
    place = file.tell()
    file.seek(0)
    other = Image.open(file, formats=[str(image.format)])
    args = name if isinstance(form, str) else (name, *form[1:])
    other.tile = [each._replace(args=args) for each in other.tile]
    other.load()
    file.seek(place)
    return other


def from_two_bytes(upper: Image.Image, lower: Image.Image) -> np.ndarray:
    """`[height, width, 3] uint16`: the colours of an image of 16 bits, from two images of 8."""
    high = np.asarray(upper)[..., :3].astype(np.uint16)
    return high << 8 | np.asarray(lower)[..., :3]
