"""Brings an image to a network's square. Pillow and NumPy alone."""

from collections.abc import Callable

import numpy as np
from PIL import Image

# Of images with more pixels only the rows that are needed are copied out of Pillow.
WHOLE_PIXELS = 16_000_000
# Of the rows that are blended at a time, as bytes; floats of them fit in the cache, and memory is
# used again, not asked of the system each time, which takes four times as long.
PIECE_BYTES = 2**17


def resize_to_square(pixels: np.ndarray, side: int) -> np.ndarray:
    """Resizes bilinearly without antialiasing, as OpenCV does, and Caffe's SSD with it.

    Args:
      pixels: `[height, width, 3] uint8`.
      side: of the square.

    Returns:
      `[side, side, 3] uint8`.
    """
    height, width, _ = pixels.shape
    rows = np.ascontiguousarray(pixels).reshape(height, width * 3)
    return rows_to_square(rows.__getitem__, (height, width), side)


def image_to_square(image: Image.Image, side: int) -> np.ndarray:
    """`resize_to_square` of an RGB image."""
    width, height = image.size
    if width * height <= WHOLE_PIXELS:
        return resize_to_square(np.asarray(image), side)

    def rows(places: np.ndarray) -> np.ndarray:
        each = [np.asarray(image.crop((0, y, width, y + 1))).ravel() for y in places.tolist()]
        return np.stack(each)

    return rows_to_square(rows, (height, width), side)


def rows_to_square(
    rows: Callable[[np.ndarray], np.ndarray], size: tuple[int, int], side: int
) -> np.ndarray:
    """`resize_to_square` of an image of which only the rows that are needed are made.

    Args:
      rows: gives the rows with some numbers, `[rows, width * 3] uint8`.
      size: height and width of the image.
      side: of the square.
    """
    above, below, weight = _neighbours(size[0], side)
    step = max(1, PIECE_BYTES // (3 * size[1]))  # rows
    pieces = [slice(start, start + step) for start in range(0, side, step)]
    return np.concatenate(
        [_resize_rows(rows(above[each]), rows(below[each]), weight[each], side) for each in pieces]
    )


def _resize_rows(above: np.ndarray, below: np.ndarray, weight: np.ndarray, side: int) -> np.ndarray:
    """Blends the rows, `[rows, width * 3] uint8`, above and below each new one; then columns."""
    # One direction after the other, on rows of bytes: fewer and longer pieces are faster.
    rows = _blend(above, below, weight[:, None])
    width = rows.shape[1] // 3
    left, right, weight = _neighbours(width, side)
    channels = np.arange(3)
    columns = _blend(
        rows[:, (3 * left[:, None] + channels).ravel()],
        rows[:, (3 * right[:, None] + channels).ravel()],
        weight.repeat(3),
    )
    return np.rint(columns).astype(np.uint8).reshape(-1, side, 3)


def _neighbours(length: int, side: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """For each new pixel the two old ones beside its centre, and the weight of the second."""
    centres = np.clip((np.arange(side) + 0.5) * (length / side) - 0.5, 0, length - 1)
    first = centres.astype(int)
    second = np.minimum(first + 1, length - 1)
    return first, second, (centres - first).astype(np.float32)


def _blend(first: np.ndarray, second: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """`first + (second - first) * weight` in float32, with little memory."""
    first, second = first.astype(np.float32), second.astype(np.float32)
    second -= first
    second *= weight
    second += first
    return second
