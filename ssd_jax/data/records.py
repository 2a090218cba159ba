"""One image with its objects: as a file describes it, and as training and evaluation use it."""

import dataclasses
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np

Unit = Literal["pixels", "fractions"]


@dataclasses.dataclass(frozen=True)
class Annotation:
    """One image and its objects as a file describes them, before cleaning.

    Attributes:
      image_id: what results call the image.
      path: the image file; empty where `encoded` holds its bytes.
      file: what describes the image: an annotation file, or `image_id` where there is none.
      size: (height, width) as that states them, or None where it does not.
      boxes: `[objects, 4] xyxy` float64 in `unit`; may reach outside the image.
      names: the class name of each object.
      difficult: `[objects] bool`: trained on, but neither asked for nor counted in evaluation.
      crowd: `[objects] bool`: boxes round many objects; not trained on.
      area: `[objects]` float64: of each object's outline in square pixels, NaN where not given.
      unit: of the boxes: "pixels" of an image of `size`, or "fractions" of the image.
      encoded: the bytes of the image file where `path` is empty.
      span: where in `path` the image file lies, as (offset, length); None where it is all of it.
      dropped: how many boxes without area the reader has left out.
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

        Times the size they are the pixels of the file again, as in Caffe and TensorFlow Datasets.
        """
        height, width = size if self.unit == "pixels" else (1.0, 1.0)
        return (self.boxes / (width, height, width, height)).astype(np.float32)


class Object(NamedTuple):
    """One object of an `Annotation`; see there.

    Attributes:
      name: the class.
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
    """An `Annotation` of these objects; see there.

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
      image_id: what results call the image.
      path: the image file; empty where `encoded` holds its bytes.
      encoded: the bytes of the image file where `path` is empty.
      size: (height, width) of the image, upright; None where it was not looked at, or cannot be.
      boxes: `[objects, 4] xyxy` float32 in [0, 1], each with some area.
      labels: `[objects]` int32 from 1.
      difficult: `[objects] bool`: trained on, but neither asked for nor counted in evaluation.
      crowd: `[objects] bool`: boxes round many objects; not trained on.
      area: `[objects]` float64: of each object's outline in square pixels, NaN where not given.
      dropped: how many boxes without area were left out and not yet counted in a message.
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
        """What captions call the image: see `caption_name`."""
        return caption_name(self.path, self.image_id)

    @property
    def image(self) -> str | bytes:
        """The image for functions that open files: its bytes, or its path."""
        return self.encoded or self.path


class NamedImage(NamedTuple):
    """The pixels of an image, and what captions call it.

    Attributes:
      name: see `caption_name`.
      pixels: `[height, width, 3] uint8` RGB.
    """

    name: str
    pixels: np.ndarray

    @classmethod
    def of(cls, path: str, image_id: str, pixels: np.ndarray) -> "NamedImage":
        """The pixels of the image in a file, or "" of one in no file of its own."""
        return cls(caption_name(path, image_id), pixels)


def caption_name(path: str, image_id: str) -> str:
    """The name of an image's file; its own name where it is in no file of its own."""
    return Path(path).name or image_id
