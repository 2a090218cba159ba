"""Frames of videos that are converted in strips have the same pixels."""

import numpy as np
import pytest
from PIL import Image

from ssd_jax.images.resizing import resize_to_square
from ssd_jax.inference import frames
from ssd_jax.inference.frames import (
    parts_of_frame,
    parts_of_image,
    paste,
    rgb,
    to_square,
    upright_size,
    yuv_frame,
)

av = pytest.importorskip("av")
HEIGHT, WIDTH = 76, 101  # of an odd height, swscale converts otherwise, by up to 4 of 255


@pytest.fixture(autouse=True)
def small_strips(monkeypatch):
    monkeypatch.setattr(frames, "STRIP_PIXELS", 16 * WIDTH)


def smooth_pixels(height=HEIGHT, width=WIDTH):
    y, x = np.mgrid[:height, :width]
    return np.stack([3 * y, 2 * x, x + y], axis=-1).astype(np.uint8)


class Turned:
    """A frame of a video whose file states a rotation."""

    def __init__(self, frame, rotation):
        self._frame, self.rotation = frame, rotation

    def __getattr__(self, name):
        return getattr(self._frame, name)


@pytest.mark.parametrize("rotation", [0, 90, 180, -90])
@pytest.mark.parametrize("form", ["yuv420p", "yuv410p", "nv12", "yuv444p10le", "rgb24", "pal8"])
def test_parts_of_a_frame_are_the_frame(form, rotation):
    whole = av.VideoFrame.from_ndarray(smooth_pixels(), format="rgb24")
    if form == "pal8":
        whole = av.VideoFrame.from_ndarray(
            (smooth_pixels()[..., 0], smooth_pixels(256, 4)[:, 0].repeat(2, 1)[:, :4]),
            format="pal8",
        )
    else:
        whole = whole.reformat(format=form, dst_colorspace="ITU709", dst_color_range="MPEG")
    frame = Turned(whole, rotation)
    pixels = rgb(frame)
    assert pixels.shape[:2] == upright_size(frame)
    assert pixels.shape[:2] == ((HEIGHT, WIDTH) if rotation in (0, 180) else (WIDTH, HEIGHT))
    joined = np.zeros_like(pixels)
    parts = list(parts_of_frame(av, frame))
    for left, top, image in parts:
        joined[top : top + image.height, left : left + image.width] = np.asarray(image)
    assert len(parts) == (1 if form == "pal8" else 5)
    # Some forms have colours between two rows, which differ beside the end of a strip.
    limit = {"nv12": 4, "yuv410p": 8}.get(form, 0)
    assert np.abs(joined.astype(int) - pixels).max() <= limit
    wanted = resize_to_square(joined, 32).astype(int)
    assert np.abs(to_square(av, frame, 32) - wanted).max() <= 1  # rows before columns, or behind


def test_an_image_in_parts_is_encoded_as_the_whole():
    image = Image.fromarray(smooth_pixels())
    whole, in_parts = yuv_frame(av, WIDTH, HEIGHT), yuv_frame(av, WIDTH, HEIGHT)
    paste(av, whole, frames.Part(0, 0, image))
    parts = list(parts_of_image(image))
    assert len(parts) == 5
    for part in parts:
        paste(av, in_parts, part)
    difference = in_parts.to_ndarray().astype(int) - whole.to_ndarray()
    assert difference.shape == (HEIGHT * 3 // 2, 102) and np.abs(difference).max() <= 1
    decoded = rgb(in_parts)[:HEIGHT, :WIDTH].astype(int)
    assert np.abs(decoded - smooth_pixels()).mean() < 4
