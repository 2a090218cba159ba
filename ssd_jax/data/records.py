"""One image with its objects: before cleaning, and for training and evaluation."""

import dataclasses
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np

Unit = Literal["pixels", "fractions"]


@dataclasses.dataclass(frozen=True)
class Annotation:
    """One image and its objects in an annotation file, before cleaning.

    Attributes:
      image_id: the name of the image in results.
      path: the image file; empty if `encoded` has its bytes.
      file: the annotation file; `image_id` without one.
      size: the stated (height, width); None if not stated.
      boxes: `[objects, 4] xyxy` float64 in `unit`; may reach outside the image.
      names: the class name of each object.
      difficult: `[objects] bool`: used in training, but not required or counted in evaluation.
      crowd: `[objects] bool`: boxes around many objects; not used in training.
      area: `[objects]` float64: the area of each outline in square pixels, NaN where not given.
      unit: the unit of the boxes: "pixels" of an image of `size`, or "fractions" of the image.
      encoded: the bytes of the image file if `path` is empty.
      span: the position of the image in `path`, as (offset, length); None for the whole file.
      dropped: the number of boxes without area that the reader left out.
    """

    image_id: str
    path: str
    file: str
    size: tuple[float, float] | None
    boxes: np.ndarray
    names: tuple[str, ...]
    difficult: np.ndarray
    crowd: np.ndarray
    area: np.ndarray
    unit: Unit = "pixels"
    encoded: bytes = b""
    span: tuple[int, int] | None = None
    dropped: int = 0

    def chosen(self, objects: np.ndarray) -> "Annotation":
        """The image with the objects for which `[objects] bool` is true."""
        return dataclasses.replace(
            self,
            boxes=self.boxes[objects],
            names=tuple(self.names[i] for i in np.flatnonzero(objects).tolist()),
            difficult=self.difficult[objects],
            crowd=self.crowd[objects],
            area=self.area[objects],
        )

    def fractions(self, size: tuple[float, float]) -> np.ndarray:
        """The boxes as fractions of an image of (height, width), `[objects, 4] xyxy` float32.

        Multiplied by the size, they are the pixels of the file again, as in Caffe and TensorFlow
        Datasets.
        """
        height, width = size if self.unit == "pixels" else (1.0, 1.0)
        return (self.boxes / (width, height, width, height)).astype(np.float32)


class Object(NamedTuple):
    """One object of an `Annotation`.

    Attributes:
      name: the name of the class.
      box: x_min, y_min, x_max, y_max.
    """

    name: str
    box: Sequence[float]
    difficult: bool = False
    crowd: bool = False
    area: float = math.nan


def annotation(
    image_id: str,
    path: str | Path,
    file: str | Path,
    objects: Sequence[Object],
    size: tuple[float, float] | None = None,
    unit: Unit = "pixels",
    span: tuple[int, int] | None = None,
) -> Annotation:
    """Makes an `Annotation` of these objects.

    A size below one pixel counts as not stated: some tools write 0.
    """
    return Annotation(
        image_id=image_id,
        path=str(path),
        file=str(file),
        size=size if size and min(size) >= 1 else None,
        boxes=np.array([each.box for each in objects], np.float64).reshape(-1, 4),
        names=tuple(each.name for each in objects),
        difficult=np.array([each.difficult for each in objects], bool),
        crowd=np.array([each.crowd for each in objects], bool),
        area=np.array([each.area for each in objects], np.float64),
        unit=unit,
        span=span,
    )


@dataclasses.dataclass(frozen=True)
class Record:
    """One image and its objects, cleaned, with labels.

    Attributes:
      image_id: the name of the image in results.
      path: the image file; empty if `encoded` has its bytes.
      encoded: the bytes of the image file if `path` is empty.
      size: (height, width) of the image, upright; None if not read, or unreadable.
      boxes: `[objects, 4] xyxy` float32 in [0, 1], each with some area.
      labels: `[objects]` int32 from 1.
      difficult: `[objects] bool`: used in training, but not required or counted in evaluation.
      crowd: `[objects] bool`: boxes around many objects; not used in training.
      area: `[objects]` float64: the area of each outline in square pixels, NaN where not given.
      dropped: the number of left out boxes without area that no message has counted yet.
    """

    image_id: str
    path: str
    encoded: bytes
    size: tuple[float, float] | None
    boxes: np.ndarray
    labels: np.ndarray
    difficult: np.ndarray
    crowd: np.ndarray
    area: np.ndarray
    dropped: int = 0

    @property
    def name(self) -> str:
        """The name of the image in captions; see `caption_name`."""
        return caption_name(self.path, self.image_id)

    @property
    def image(self) -> str | bytes:
        """The image for functions that open files: its bytes, or its path."""
        return self.encoded or self.path


class NamedImage(NamedTuple):
    """The pixels of an image, and its name in captions.

    Attributes:
      name: see `caption_name`.
      pixels: `[height, width, 3] uint8` RGB.
    """

    name: str
    pixels: np.ndarray

    @classmethod
    def of(cls, path: str, image_id: str, pixels: np.ndarray) -> "NamedImage":
        """Names the pixels of an image; `path` is "" for an image inside a larger file."""
        return cls(caption_name(path, image_id), pixels)


def caption_name(path: str, image_id: str) -> str:
    """The name of an image's file; `image_id` for an image inside a larger file."""
    return Path(path).name or image_id
