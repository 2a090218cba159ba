"""Resizes an image to the square input of a network. Needs Pillow and NumPy only."""

from collections.abc import Callable

import numpy as np
from PIL import Image

# From images with more pixels, only the needed rows are copied out of Pillow.
WHOLE_PIXELS = 16_000_000
# Bytes of the rows that are blended at a time. As floats they take 120 kB. Larger arrays would be
# allocated from the system and freed each time, which takes longer than the arithmetic.
PIECE_BYTES = 30_000


def resize_to_square(pixels: np.ndarray, side: int) -> np.ndarray:
    """Resizes bilinearly without antialiasing, like OpenCV in Caffe's SSD.

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
    """`resize_to_square` of an image that is read by rows; only the needed rows are read.

    Args:
      rows: gives the rows with the given indices, `[rows, width * 3] uint8`.
      size: height and width of the image.
      side: of the square.
    """
    height, width = size
    above, below, weight = _neighbours(height, side)
    left, right, weight_of_columns = _neighbours(width, side)
    channels = np.arange(3)
    left, right = ((3 * places[:, None] + channels).ravel() for places in (left, right))
    weight_of_columns = weight_of_columns.repeat(3)
    square = np.empty((side, side * 3), np.uint8)
    step = max(1, PIECE_BYTES // (3 * width))  # rows
    for start in range(0, side, step):
        each = slice(start, start + step)
        # Blends rows first, then columns, on rows of bytes: fewer and longer pieces are faster.
        blended = _blend(rows(above[each]), rows(below[each]), weight[each, None])
        columns = _blend(blended[:, left], blended[:, right], weight_of_columns)
        square[each] = np.rint(columns, out=columns)
    return square.reshape(side, side, 3)


def _neighbours(length: int, side: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """For each new pixel the two old pixels around its centre, and the weight of the second."""
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
