"""One image with its objects: as a file describes it, and as training and evaluation use it."""

import dataclasses

import numpy as np


@dataclasses.dataclass(frozen=True)
class Annotation:
    """One image and its objects as a file describes them, before cleaning.

    Attributes:
      image_id: what results call the image.
      path: the image file; empty where `encoded` holds its bytes.
      file: what describes the image: an annotation file, or `image_id` where there is none.
      size: (height, width) as that states them, or None where it does not.
      boxes: `[objects, 4] xyxy` float32, fractions of the image; may reach outside [0, 1].
      names: the class name of each object.
      difficult: `[objects] bool`: trained on, but neither asked for nor counted in evaluation.
      crowd: `[objects] bool`: boxes round many objects; not trained on.
      area: `[objects]` float64: of each object's outline in square pixels, NaN where not given.
      encoded: the bytes of the image file where `path` is empty.
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
    encoded: bytes = b""
    dropped: int = 0


@dataclasses.dataclass(frozen=True)
class Record:
    """One image and its objects, cleaned, with labels.

    Attributes:
      image_id: what results call the image.
      path: the image file; empty where `encoded` holds its bytes.
      encoded: the bytes of the image file where `path` is empty.
      size: (height, width) as the annotation states them, or None where it does not.
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
    def image(self) -> str | bytes:
        """The image for functions that open files: its bytes, or its path."""
        return self.encoded or self.path
