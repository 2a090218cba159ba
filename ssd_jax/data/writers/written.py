"""An image with its objects as writers of data sets take it."""

from typing import NamedTuple, Protocol

import numpy as np


class Written(NamedTuple):
    """An image of a data set that is written.

    Attributes:
      name: of its file; no other image of the set has it, nor the same without its suffix.
      size: (height, width), upright.
      boxes: `[objects, 4] xyxy` float64 in pixels.
      labels: `[objects]` int32 from 1.
      difficult: `[objects] bool`.
      crowd: `[objects] bool`.
      area: `[objects]` float64: of each object's outline in square pixels, NaN where not known.
    """

    name: str
    size: tuple[int, int]
    boxes: np.ndarray
    labels: np.ndarray
    difficult: np.ndarray
    crowd: np.ndarray
    area: np.ndarray


class Writer(Protocol):
    """Writes the annotations of a data set.

    Attributes:
      keeps_difficult: whether the format has a flag for difficult objects.
      keeps_crowd: whether it has one for crowds; crowds are left out otherwise.
    """

    keeps_difficult: bool
    keeps_crowd: bool

    def image_folder(self, split: str) -> str:
        """Where the images of a split go, from the root of the set."""
        ...

    def add(self, split: str, image: Written) -> None:
        """Writes, or keeps, the annotation of an image."""
        ...

    def finish(self) -> None:
        """Writes what describes the set as a whole."""
        ...


def number(value: float) -> str:
    """A number with up to four decimals, without zeros at its end."""
    return f"{value:.4f}".rstrip("0").rstrip(".")
