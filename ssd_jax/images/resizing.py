"""Brings an image to a network's square. NumPy alone."""

import numpy as np


def resize_to_square(pixels: np.ndarray, side: int) -> np.ndarray:
    """Resizes bilinearly without antialiasing, as OpenCV does, and Caffe's SSD with it.

    Args:
      pixels: `[height, width, 3] uint8`.
      side: of the square.

    Returns:
      `[side, side, 3] uint8`.
    """
    height, width, _ = pixels.shape
    # One direction after the other, on rows of bytes: fewer and longer pieces are faster.
    above, below, weight = _neighbours(height, side)
    rows = np.ascontiguousarray(pixels).reshape(height, width * 3)
    rows = _blend(rows[above], rows[below], weight[:, None])
    left, right, weight = _neighbours(width, side)
    channels = np.arange(3)
    columns = _blend(
        rows[:, (3 * left[:, None] + channels).ravel()],
        rows[:, (3 * right[:, None] + channels).ravel()],
        weight.repeat(3),
    )
    return np.rint(columns).astype(np.uint8).reshape(side, side, 3)


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
