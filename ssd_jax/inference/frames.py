"""Converts video frames to RGB and back; large frames are processed in strips.

An RGB image of an 8K frame takes 100 MB, and in Pillow 133 MB. Only this file and `video.py` use
PyAV.
"""

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from ssd_jax.images.resizing import rows_to_square

STRIP_PIXELS = 2**22


class Part(NamedTuple):
    """A part of an image.

    Attributes:
      left, top: the position of its first pixel in the image.
      image: its pixels, RGB.
    """

    left: int
    top: int
    image: Image.Image


def rgb(frame: Any) -> np.ndarray:
    """The pixels of a frame, `[height, width, 3] uint8` RGB, upright, without a copy."""
    return np.rot90(_rgb(frame), _turns(frame))


def upright_size(frame: Any) -> tuple[int, int]:
    """Height and width of a frame, after the rotation of the video."""
    return (frame.width, frame.height) if _turns(frame) % 2 else (frame.height, frame.width)


def to_square(av: Any, frame: Any, side: int) -> np.ndarray:
    """Converts a frame to the input of the network, upright: `[side, side, 3] uint8`."""

    def rows(places: np.ndarray) -> np.ndarray:
        found = np.empty((len(places), frame.width * 3), np.uint8)
        for top, strip in _strips(av, frame):
            inside = (top <= places) & (places < top + strip.height)
            if inside.any():
                found[inside] = _rgb(strip)[places[inside] - top].reshape(-1, frame.width * 3)
        return found

    return np.rot90(rows_to_square(rows, (frame.height, frame.width), side), _turns(frame))


def parts_of_frame(av: Any, frame: Any) -> Iterator[Part]:
    """Yields the strips of a frame, upright."""
    height, width = upright_size(frame)
    turns = _turns(frame) % 4
    for top, strip in _strips(av, frame):
        end = top + strip.height
        left, top = {0: (0, top), 1: (top, 0), 2: (0, height - end), 3: (width - end, 0)}[turns]
        yield Part(left, top, Image.fromarray(np.rot90(_rgb(strip), turns)))


def parts_of_image(image: Image.Image) -> Iterator[Part]:
    """Yields the strips of an image."""
    for top, end in _rows_of_strips(*image.size):
        yield Part(0, top, image.crop((0, top, image.width, end)))


def yuv_frame(av: Any, width: int, height: int) -> Any:
    """An empty frame for the encoder, in BT.709 from 16 to 235.

    Colours have half the resolution, so sides are made even.
    """
    frame = av.VideoFrame(width + width % 2, height + height % 2, "yuv420p")
    frame.colorspace, frame.color_range = 1, 1
    return frame


def paste(av: Any, frame: Any, part: Part) -> None:
    """Copies a part of an image to a `yuv_frame`; the last pixels of an odd side are repeated."""
    width, height = (side + side % 2 for side in part.image.size)
    strip = av.VideoFrame(width, height, "rgb24")
    rows, end = _rows(strip.planes[0]), 3 * part.image.width
    rows[: part.image.height, :end] = np.asarray(part.image).reshape(part.image.height, end)
    rows[:, end : 3 * width] = rows[:, end - 3 : end][:, : 3 * width - end]
    rows[part.image.height :] = rows[part.image.height - 1]
    strip = strip.reformat(format="yuv420p", dst_colorspace="ITU709", dst_color_range="MPEG")
    for source, target, scale in zip(strip.planes, frame.planes, (1, 2, 2), strict=True):
        left, top = part.left // scale, part.top // scale
        place = _rows(target)[top : top + source.height, left : left + source.width]
        place[:] = _rows(source)[:, : source.width]


def _turns(frame: Any) -> int:
    """The number of counterclockwise quarter turns that make a frame upright."""
    return frame.rotation // 90


def _rgb(frame: Any) -> np.ndarray:
    plane = frame.reformat(format="rgb24").planes[0]
    shape, strides = (frame.height, frame.width, 3), (plane.line_size, 3, 1)
    return np.ndarray(shape, np.uint8, plane, strides=strides)


def _strips(av: Any, frame: Any) -> Iterator[tuple[int, Any]]:
    """Yields the first row, and the rows as a frame, of each strip of a frame."""
    if frame.format.has_palette or any(plane.line_size < 0 for plane in frame.planes):
        yield 0, frame
        return
    for top, end in _rows_of_strips(frame.width, frame.height):
        strip = av.VideoFrame(frame.width, end - top, frame.format.name)
        strip.colorspace, strip.color_range = frame.colorspace, frame.color_range
        for source, target in zip(frame.planes, strip.planes, strict=True):
            start = top * source.height // frame.height  # colours may have fewer rows
            width = min(source.line_size, target.line_size)
            place = _rows(source)[start : start + target.height, :width]
            _rows(target)[:, :width] = place
        yield top, strip


def _rows_of_strips(width: int, height: int) -> Iterator[tuple[int, int]]:
    """The first row and the end of each strip; strips share no row of colours."""
    step = max(8, STRIP_PIXELS // width // 8 * 8)
    for top in range(0, height, step):
        yield top, min(top + step, height)


def _rows(plane: Any) -> np.ndarray:
    """The bytes of a plane, `[height, line size] uint8`, without a copy."""
    return np.frombuffer(plane, np.uint8).reshape(plane.height, plane.line_size)
