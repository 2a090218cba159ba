"""Writes images as a video in H.264."""

from collections.abc import Iterable
from fractions import Fraction
from pathlib import Path
from typing import Any

from PIL import Image

from ssd_jax.errors import UserError, reason_of
from ssd_jax.inference.frames import Part, parts_of_image, paste, yuv_frame

# The number of frames that the encoder looks ahead.
LOOKAHEAD_BYTES, MOST_LOOKAHEAD = 2**28, 40


class VideoWriter:
    """A video file; it is opened with its first image, and complete at the end of the block."""

    def __init__(
        self, av: Any, path: Path, rate: Fraction | int, time_base: Fraction, is_large: bool
    ) -> None:
        """Prepares a file.

        Args:
          av: PyAV.
          path: the path of the file.
          rate: images per second.
          time_base: the unit of times, in seconds.
          is_large: whether images are large, so that as few as possible are kept.
        """
        self._av = av
        self._path = path
        self._rate = rate
        self._time_base = time_base
        self._is_large = is_large
        self._container: Any = None

    def __enter__(self) -> "VideoWriter":
        return self

    def write(self, size: tuple[int, int], parts: Iterable[Part], pts: int) -> None:
        """Writes an image.

        Args:
          size: its width and height.
          parts: its parts.
          pts: its time.

        Raises:
          UserError: the file cannot be written.
        """
        if self._container is None:
            self._container = self._open(size)
        if size != self._size:  # some streams change their size
            image = Image.new("RGB", size)
            for part in parts:
                image.paste(part.image, part[:2])
            parts = parts_of_image(image.resize(self._size))
        frame = yuv_frame(self._av, *self._size)
        for part in parts:
            paste(self._av, frame, part)
        frame.pts, frame.time_base = pts, self._time_base
        try:
            self._container.mux(self._stream.encode(frame))
        except (self._av.FFmpegError, OSError) as error:
            raise UserError(f"{self._path} cannot be written: {reason_of(error)}") from error

    def _open(self, size: tuple[int, int]) -> Any:
        """Opens the file for images of this width and height."""
        self._size = size
        container = self._av.open(str(self._path), "w")
        lookahead = min(MOST_LOOKAHEAD, LOOKAHEAD_BYTES // (size[0] * size[1] * 3 // 2))
        options = {} if lookahead == MOST_LOOKAHEAD else {"rc-lookahead": str(lookahead)}
        if self._is_large:
            options = {"preset": "ultrafast", "tune": "zerolatency", "threads": "1"}
        self._stream = container.add_stream("libx264", rate=self._rate, options=options)
        self._stream.width, self._stream.height = (side + side % 2 for side in size)
        self._stream.pix_fmt = "yuv420p"
        self._stream.codec_context.time_base = self._time_base
        self._stream.codec_context.colorspace = 1  # BT.709
        self._stream.codec_context.color_range = 1  # 16 to 235
        return container

    def __exit__(self, *failure: object) -> None:
        if self._container is not None:
            self._container.mux(self._stream.encode(None))
            self._container.close()
