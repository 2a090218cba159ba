"""The interface of writers of data sets, and their input: an image with its objects."""

from typing import NamedTuple, Protocol

import numpy as np


class Written(NamedTuple):
    """An image of a data set that is written.

    Attributes:
      name: its file name; unique in the set, also without its suffix.
      size: (height, width), upright.
      boxes: `[objects, 4] xyxy` float64 in pixels.
      labels: `[objects]` int32 from 1.
      difficult: `[objects] bool`.
      crowd: `[objects] bool`.
      area: `[objects]` float64: the area of each outline in square pixels, NaN where unknown.
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
      keeps_crowd: whether it has a flag for crowds; otherwise they are left out.
    """

    keeps_difficult: bool
    keeps_crowd: bool

    def image_folder(self, split: str) -> str:
        """The folder for the images of a split, from the root of the set."""
        ...

    def add(self, split: str, image: Written) -> None:
        """Adds the annotation of an image."""
        ...

    def finish(self) -> None:
        """Writes the files of the whole set."""
        ...


def number(value: float) -> str:
    """Formats a number with up to four decimals, without trailing zeros."""
    return f"{value:.4f}".rstrip("0").rstrip(".")
