"""Detects in every frame of videos, streams and cameras, and writes a video with boxes.

Reading, detecting and writing run in separate threads, except for large frames.
"""

import contextlib
import itertools
import os
import re
import sys
from collections.abc import Callable, Generator, Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import numpy as np
from PIL import Image

from ssd_jax.errors import UserError, missing_package, reason_of
from ssd_jax.images.drawing import BoxDrawing
from ssd_jax.images.limits import MAX_PIXELS
from ssd_jax.inference.detections import Detections, open_as_rgb
from ssd_jax.inference.detector import AnyDetector, Prepared
from ssd_jax.inference.frames import (
    Part,
    parts_of_frame,
    parts_of_image,
    rgb,
    to_square,
    upright_size,
)
from ssd_jax.inference.tiles import TiledDetector
from ssd_jax.inference.tracking import Tracker
from ssd_jax.inference.video_writer import VideoWriter
from ssd_jax.storage.files import check_file
from ssd_jax.threads import in_background, map_ahead, num_cores, pool_of_threads

# FFmpeg's devices of cameras, and the name of camera N.
CAMERAS = {
    "linux": ("v4l2", "/dev/video{}"),
    "darwin": ("avfoundation", "{}"),
    "win32": ("vfwcap", "{}"),
}
STREAMS = tuple(
    f"{scheme}://"
    for scheme in ("http", "https", "rtsp", "rtsps", "rtmp", "rtmps", "rtp", "srt", "tcp", "udp")
)
WAITING_SECONDS = 10.0  # for a stream without data
FALLBACK_RATE = 25  # for streams that do not state a rate

# Only these readers of FFmpeg are used for files: others, like playlists, open further files and
# addresses named in a file.
FILE_FORMATS = "mov,matroska,webm,avi,mpeg,mpegts,mpegvideo,h264,hevc,m4v,asf,flv,ogg,mxf,dv,nut"

# The size of all frames between the reader and the writer; it limits the queues of stages.
BYTES_IN_FLIGHT = 2**29
STAGES = 6
# Larger frames are processed one at a time, in strips.
LARGE = BYTES_IN_FLIGHT // (2 * STAGES * 3)  # pixels
# Later frames may have this size, or the size of the first frame, which determines the queues.
GROWN_PIXELS = 2560 * 1600

Item = TypeVar("Item")


class Frame(NamedTuple):
    """A frame of a video.

    Attributes:
      index: its index from 0.
      pts: its time in units of the video's time base, from 0.
      seconds: its time in seconds.
    """

    index: int
    pts: int
    seconds: float


Select = Callable[[Detections], Detections]


def is_live(source: str) -> bool:
    """Whether a source is a camera or the URL of a stream, not a file."""
    return source.startswith(("camera:", *STREAMS))


def live_name(source: str) -> str:
    """A file name for a camera or a stream, without the user and password of a URL."""
    return re.sub(r"[^\w.-]+", "_", re.sub(r"://[^/]*@", "://", source)).strip("._")


def detect_in_video(
    detector: AnyDetector,
    source: str,
    output: Path,
    batch_size: int,
    select: Select,
    track: Tracker | None = None,
) -> Generator[tuple[int, Detections], None, None]:
    """Detects in every frame, and writes a video with boxes: same frame rate and times, no sound.

    Closing the generator early ends the video.

    Args:
      detector: the detector.
      source: a file, the URL of a stream, or `camera:N`.
      output: the video file to write.
      batch_size: the number of frames in a batch.
      select: selects the detections to keep.
      track: tracks objects before the selection; None without tracking.

    Yields:
      The index of each frame, from 0, and its detections, in order. Large frames are not kept: the
      `image` of their detections is the source.

    Raises:
      UserError: the source cannot be read, or only in part; the frames before the error are
        written. Or PyAV is not installed.
    """
    av = _import_av()
    with contextlib.ExitStack() as stack:
        container = _open(av, source)
        stream = container.streams.video[0]
        frames, num_pixels = _measured(_frames(av, container, stream, source))
        is_large = num_pixels > LARGE
        writer = VideoWriter(av, output, _rate(stream), stream.time_base, is_large)
        stack.enter_context(writer)
        if is_large:
            yield from _in_large_frames(av, detector, frames, source, writer, select, track)
            return
        at_once = BYTES_IN_FLIGHT // (STAGES * 3 * num_pixels)  # frames in the queue of a stage
        batch_size, workers = min(batch_size, at_once), min(num_cores(), at_once)
        pool = stack.enter_context(pool_of_threads(workers))

        def in_thread(items: Iterable[Item]) -> Iterator[Item]:
            return stack.enter_context(contextlib.closing(in_background(items, batch_size)))

        def prepare(frame: tuple[Frame, np.ndarray]) -> tuple[Frame, Prepared]:
            return frame[0], detector.prepare(frame[1])

        def draw(frame: tuple[Frame, Detections]) -> tuple[Frame, Detections, Image.Image]:
            found = select(frame[1])
            return frame[0], found, _drawn_frame(found)

        pixels = in_thread((index, rgb(frame)) for index, frame in frames)
        prepared = map_ahead(pool, prepare, pixels, workers)
        detected = in_thread(_tracked(detector.stream(prepared, batch_size), track))
        for frame, found, drawn in map_ahead(pool, draw, detected, workers):
            writer.write(drawn.size, parts_of_image(drawn), frame.pts)
            yield frame.index, found


def _measured(
    frames: Iterator[tuple[Frame, Any]],
) -> tuple[Iterator[tuple[Frame, Any]], int]:
    """The same frames, and the number of pixels of the first."""
    first = next(frames)
    return itertools.chain([first], frames), first[1].width * first[1].height


def _in_large_frames(
    av: Any,
    detector: AnyDetector,
    frames: Iterable[tuple[Frame, Any]],
    source: str,
    writer: VideoWriter,
    select: Select,
    track: Tracker | None,
) -> Iterator[tuple[int, Detections]]:
    """Detects in frames one by one; no frame is kept while the next one is read."""
    if isinstance(detector, TiledDetector):
        raise UserError(
            f"{source} has frames of more than {LARGE:,} pixels, which --tile does not support: "
            "leave it out"
        )
    for index, frame in frames:
        height, width = upright_size(frame)
        prepared = Prepared(source, (height, width), to_square(av, frame, detector.side))
        ((_, found),) = _tracked(detector.stream([(index, prepared)], 1), track)
        found = select(found)
        parts = _drawn(parts_of_frame(av, frame), _drawing(found))
        del frame
        writer.write((width, height), parts, index.pts)
        del parts
        yield index.index, found


def _tracked(
    frames: Iterable[tuple[Frame, Detections]], track: Tracker | None
) -> Iterator[tuple[Frame, Detections]]:
    """Yields frames with detections, and with the numbers of objects if `track` is given."""
    for frame, found in frames:
        yield frame, track(found, frame.seconds) if track else found


def _drawn_frame(found: Detections) -> Image.Image:
    """Draws boxes, names and scores on a frame, in its size."""
    image = open_as_rgb(found.image)
    _drawing(found).draw(image)
    return image


def _drawing(found: Detections) -> BoxDrawing:
    """The drawing of detections on a frame, without a change of its size."""
    height, width = found.size
    return BoxDrawing(
        (width, height),
        found.boxes,
        found.labels,
        found.class_names,
        found.scores,
        tracks=found.tracks,
    )


def _drawn(parts: Iterable[Part], drawing: BoxDrawing) -> Iterator[Part]:
    """Draws boxes, names and scores on the parts of an image."""
    for part in parts:
        drawing.draw(part.image, (part.left, part.top))
        yield part


def num_frames(source: str) -> int | None:
    """The number of frames that a video file states; None if it does not."""
    if is_live(source):
        return None
    av = _import_av()
    try:
        with _open(av, source) as container:
            return container.streams.video[0].frames or None
    except UserError:
        return None


def _import_av() -> Any:
    try:
        import av
        import av.logging
    except ImportError as error:
        raise missing_package("av") from error
    av.logging.set_level(av.logging.PANIC)  # problems are also raised as errors
    return av


def _open(av: Any, source: str) -> Any:
    file, options = source, {}
    if source.startswith("camera:"):
        number = source.removeprefix("camera:")
        device, name = CAMERAS.get(sys.platform, ("", ""))
        if not number.isdigit() or not device:
            raise UserError(f"{source} cannot be read: write camera:0, camera:1, …")
        file, options = name.format(number), {"format": device}
    limits = {"max_pixels": str(MAX_PIXELS)}
    if not is_live(source):
        # As a path: FFmpeg gives names like `concat:…` and `pipe:…` a special meaning.
        file = f"file:{os.path.abspath(source)}"
        limits |= {"format_whitelist": FILE_FORMATS, "protocol_whitelist": "file"}
    try:
        if not is_live(source):
            check_file(source)
        container = av.open(file, timeout=WAITING_SECONDS, options=limits, **options)
    except (av.FFmpegError, OSError, ValueError) as error:
        raise UserError(f"{source} cannot be read: {reason_of(error)}") from error
    if not container.streams.video:
        container.close()
        raise UserError(f"{source} cannot be read: it contains no video")
    if container.streams.video[0].codec_context is None:
        container.close()
        raise UserError(f"{source} cannot be read: the codec of its video is unknown")
    return container


def _frames(av: Any, container: Any, stream: Any, source: str) -> Iterator[tuple[Frame, Any]]:
    """Yields frames at increasing times, and closes the container at the end."""
    first, last, index, damaged, most = None, -1, 0, 0, 0
    stream.codec_context.options = {"max_pixels": str(MAX_PIXELS)}
    is_large = stream.width * stream.height > LARGE
    stream.thread_type = "SLICE" if is_large else "AUTO"  # threads per frame would keep frames
    step = max(1, round(1 / (stream.time_base * _rate(stream))))
    try:
        for packet in container.demux(stream):
            try:
                frames = packet.decode()
            except av.InvalidDataError:
                damaged += 1  # later packets may be intact
                continue
            while frames:
                frame = frames.pop(0)
                size = frame.width * frame.height
                most = most or max(size, GROWN_PIXELS)
                if size > most:
                    raise UserError(
                        f"{source} cannot be read to its end: its frames become "
                        f"{frame.width} × {frame.height} pixels, much larger than the first"
                    )
                pts = last + step if frame.pts is None else frame.pts
                first = pts if first is None else first
                # Times of streams may decrease; times of a video file must not.
                last = max(pts - first, last + 1)
                yield Frame(index, last, float(last * stream.time_base)), frame
                del frame  # the decoder reuses its memory for the next frame
                index += 1
    except (av.FFmpegError, OSError) as error:
        raise UserError(f"{source} cannot be read to its end: {reason_of(error)}") from error
    finally:
        container.close()  # closed here, because no other thread may close it while this one reads
    if not index:
        raise UserError(f"{source} cannot be read: it has no frames")
    if damaged:
        raise UserError(f"{source} is damaged: {damaged} of its packets cannot be read")


def _rate(stream: Any) -> Any:
    return stream.average_rate or stream.guessed_rate or FALLBACK_RATE
