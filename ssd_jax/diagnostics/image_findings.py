"""Findings about one image and its objects. The image is opened as for evaluation."""

import contextlib
import hashlib
import math
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from ssd_jax.data.near_duplicates import SIDE
from ssd_jax.data.problems import about_image
from ssd_jax.data.records import Annotation
from ssd_jax.diagnostics.findings import Finding
from ssd_jax.errors import UserError, counted, reason_of
from ssd_jax.images.limits import MAX_BYTES
from ssd_jax.images.opening import (
    LARGE,
    format_of,
    is_turned_by_exif,
    open_image,
    size_in_file,
)
from ssd_jax.storage.files import read_bytes

LOW_CONTRAST = 16  # levels of brightness between the darkest and the brightest percent
SMALL_SIDE = 32  # pixels of the longer side of an image
OUTSIDE = 0.5  # pixels; less may come from rounding
TINY_SHARE, TINY_PIXELS = 0.01, 4  # of a side
LONG = 15  # times as long as wide, or the reverse


class ImageContent(NamedTuple):
    """The content of an image file; sizes are (height, width).

    Attributes:
      error: the reason why it cannot be read; then the other fields are empty.
      image_format: Pillow's name of the format.
      size: upright.
      is_turned: whether EXIF turns or mirrors it.
      digest: of its bytes.
      levels: brightness from 0 to 255: lowest, 1st percentile, 99th percentile, highest.
      thumbnail: `[SIDE, SIDE]` uint8.
    """

    error: str = ""
    image_format: str = ""
    size: tuple[int, int] = (0, 0)
    is_turned: bool = False
    digest: bytes = b""
    levels: tuple[int, int, int, int] = (0, 0, 0, 0)
    thumbnail: np.ndarray = np.zeros((SIDE, SIDE), np.uint8)


def read_content(annotation: Annotation, lock: threading.Lock) -> ImageContent:
    """Opens the image of an annotation; the lock allows one large image at a time."""
    try:
        encoded = annotation.encoded or read_bytes(annotation.path, MAX_BYTES)
        stored = size_in_file(encoded, name="the image")
        with lock if math.prod(stored) > LARGE else contextlib.nullcontext():
            gray = open_image(encoded, name="the image").convert("L")
        small = gray.resize((SIDE, SIDE), Image.Resampling.BICUBIC, reducing_gap=2.0)
        image_format = format_of(encoded, name="the image")
        is_turned = is_turned_by_exif(encoded, name="the image")
    except OSError as error:
        return ImageContent(error=f"the image cannot be read: {reason_of(error)}")
    except UserError as error:
        return ImageContent(error=str(error))
    counts = np.cumsum(gray.histogram())
    # The lowest level that this number of pixels does not exceed.
    shares = [np.searchsorted(counts, share * counts[-1], "right") for share in (0, 0.01, 0.99)]
    highest = int(np.flatnonzero(np.diff(counts, prepend=0))[-1])
    return ImageContent(
        "",
        image_format,
        (gray.height, gray.width),
        is_turned,
        hashlib.blake2b(encoded, digest_size=16).digest(),
        (*(min(int(level), highest) for level in shares), highest),  # pyright: ignore
        np.asarray(small),
    )


def findings(
    annotation: Annotation, look: ImageContent, max_objects: int, is_refused: bool
) -> Iterator[Finding]:
    """The findings about one image and its objects.

    Args:
      annotation: with objects of the used classes only.
      look: the content of its image.
      max_objects: of the planned training.
      is_refused: whether cleaning refuses it; then its boxes are not checked.
    """
    path = annotation.path or annotation.file
    name = Path(annotation.path).name or annotation.image_id

    def found(kind: str, message: str, file: str = annotation.file) -> Finding:
        return Finding(kind, file, annotation.image_id, about_image(message, name, file))

    if look.error:
        yield found("image unreadable", look.error, path)
    else:
        suffix = Path(annotation.path).suffix.lower()
        named = Image.registered_extensions().get(suffix, look.image_format)
        if named != look.image_format:
            message = f"the image is {look.image_format}, though its name ends in {suffix}"
            yield found("extension", message, path)
        if look.is_turned and not is_refused:
            yield found("turned by EXIF", "EXIF turns or mirrors the image", path)
        if max(look.size) < SMALL_SIDE:
            height, width = look.size
            yield found("small image", f"has {width} × {height} pixels", path)
        kind, message = _contrast(look, len(annotation.names))
        if kind:
            yield found(kind, message, path)
    if not len(annotation.names):
        yield found("no objects", "has no objects")
    if len(annotation.names) > max_objects:
        count = counted(len(annotation.names), "object")
        message = f"has {count}, more than data.max_objects={max_objects}"
        yield found("many objects", message)
    if annotation.dropped:
        yield found("box without area", f"{counted(annotation.dropped, 'box')} without area")
    for kind, message in () if is_refused else _of_boxes(annotation, look):
        yield found(kind, message)


def _contrast(look: ImageContent, num_objects: int) -> tuple[str, str]:
    """The kind and the message of a finding about brightness; empty without one."""
    lowest, low, high, highest = look.levels
    if lowest == highest and num_objects:
        return "no contrast", f"all pixels have the brightness {lowest} of 255"
    if high - low < LOW_CONTRAST:
        return "low contrast", f"98 % of its pixels have a brightness from {low} to {high} of 255"
    return "", ""


def _of_boxes(annotation: Annotation, look: ImageContent) -> Iterator[tuple[str, str]]:
    """The kinds and messages of the findings about boxes, if the size of the image is known."""
    size = size_of(annotation, look)
    if size is None:
        return
    height, width = size
    boxes = annotation.fractions(size)
    pixels = boxes * np.array([width, height, width, height], np.float32)
    seen = set()
    for name, box, corners in zip(annotation.names, boxes, pixels, strict=True):
        described = describe(name, corners)
        kind, message = _kind_of_box(box, corners, size)
        if kind:
            yield kind, f"{described} {message}"
        if (name, *box.tolist()) in seen:
            yield "box twice", f"{described} is annotated twice"
        seen.add((name, *box.tolist()))


def _kind_of_box(
    box: np.ndarray, corners: np.ndarray, size: tuple[float, float]
) -> tuple[str, str]:
    """The kind and the message of a finding about one box, in fractions and in pixels; or ""."""
    clipped = np.clip(box, 0, 1)
    if not (clipped[2:] > clipped[:2]).all():
        return "box without area", "has no area inside the image"
    height, width = size
    beyond = np.maximum(-corners, corners - (width, height, width, height)).max()
    if beyond > OUTSIDE:
        return "box outside", f"reaches {beyond:.4g} pixels outside the image"
    share_x, share_y = (clipped[2:] - clipped[:2]).tolist()
    side_x, side_y = share_x * width, share_y * height
    if min(share_x, share_y) < TINY_SHARE or min(side_x, side_y) < TINY_PIXELS:
        return "tiny box", f"has {side_x:.4g} × {side_y:.4g} pixels"
    ratio = max(side_x / side_y, side_y / side_x)
    if ratio > LONG:
        return "long box", f"is {ratio:.3g} times as long as wide"
    return "", ""


def size_of(annotation: Annotation, look: ImageContent) -> tuple[float, float] | None:
    """(height, width) of an image, or else of its annotation; None if neither is known."""
    return look.size if look.size[0] else annotation.size


def describe(name: str, corners: np.ndarray) -> str:
    """Describes an object in messages: its class and corners."""
    listed = ", ".join(f"{corner:g}" for corner in np.round(corners.astype(float), 2).tolist())
    return f"{name!r} at {listed}"
