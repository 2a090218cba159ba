"""Default boxes: the fixed boxes that SSD places on every cell of its feature maps.

Paper section 2.2; sizes and rounding as in Caffe's `prior_box_layer.cpp`.
"""

import dataclasses
import math
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float32

Shapes = tuple[tuple[float, float], ...]  # width and height of each box of a cell


@dataclasses.dataclass(frozen=True)
class Tiling:
    """The layout of default boxes over an image. Every tuple has one entry per feature map.

    Attributes:
      image_size: side of the square input, in pixels.
      feature_sizes: side of each square feature map, in cells.
      strides: distance of neighbouring cell centres, in pixels of the input.
      shapes: widths and heights of the boxes of a cell, in pixels of the input; a map without
        boxes has no predictions.
      clip: whether centres and sizes are clipped to [0, 1], as in ssd.pytorch (not in Caffe).
    """

    image_size: int
    feature_sizes: tuple[int, ...]
    strides: tuple[float, ...]
    shapes: tuple[Shapes, ...]
    clip: bool = False

    def __post_init__(self) -> None:
        _check_lengths({"feature_sizes": self.feature_sizes, "strides": self.strides})
        _check_lengths({"feature_sizes": self.feature_sizes, "shapes": self.shapes})

    @property
    def boxes_per_cell(self) -> tuple[int, ...]:
        """Default boxes on one cell of each feature map."""
        return tuple(len(shapes) for shapes in self.shapes)

    @property
    def num_boxes(self) -> int:
        """Default boxes in all."""
        return sum(
            size * size * boxes
            for size, boxes in zip(self.feature_sizes, self.boxes_per_cell, strict=True)
        )


def shapes_from_sizes(
    min_sizes: Sequence[float],
    max_sizes: Sequence[float],
    aspect_ratios: Sequence[Sequence[float]],
    whole_pixels: bool = True,
) -> tuple[Shapes, ...]:
    """Computes the box shapes of the paper; every argument has one entry per feature map.

    A small square, a large square, then (wide, tall) for each aspect ratio.

    Args:
      min_sizes: s, the side of the small square box, in pixels.
      max_sizes: s', so that the large square box has the side sqrt(s * s').
      aspect_ratios: the ratios a > 1; each adds a box of ratio a and one of 1 / a.
      whole_pixels: whether to round sizes down to whole pixels, as in Caffe (not in ssd.pytorch).
    """
    sizes = {"min_sizes": min_sizes, "max_sizes": max_sizes, "aspect_ratios": aspect_ratios}
    _check_lengths(sizes)
    maps = []
    for min_size, max_size, ratios in zip(*sizes.values(), strict=True):
        if whole_pixels:
            min_size, max_size = int(min_size), int(max_size)
        large = math.sqrt(min_size * max_size)
        shapes = [(min_size, min_size), (large, large)]
        for ratio in ratios:
            root = math.sqrt(ratio)
            shapes += [(min_size * root, min_size / root), (min_size / root, min_size * root)]
        maps.append(tuple(shapes))
    return tuple(maps)


def default_boxes(tiling: Tiling) -> Float32[np.ndarray, "boxes 4"]:
    """Lays out all default boxes of a tiling.

    Feature map after feature map, cell after cell row by row, and within a cell in the order of
    its shapes.

    Returns:
      `[boxes, 4] cxcywh` float32, fractions of the image.
    """
    layers = []
    for feature_size, stride, shapes in zip(
        tiling.feature_sizes, tiling.strides, tiling.shapes, strict=True
    ):
        centres = (np.arange(feature_size) + 0.5) * stride
        y, x = np.meshgrid(centres, centres, indexing="ij")
        layer = np.empty((feature_size, feature_size, len(shapes), 4))
        layer[..., 0] = x[..., None]
        layer[..., 1] = y[..., None]
        layer[..., 2:] = np.reshape(shapes, (-1, 2))
        layers.append(layer.reshape(-1, 4))
    boxes = (np.concatenate(layers) / tiling.image_size).astype(np.float32)
    return np.clip(boxes, 0, 1) if tiling.clip else boxes


def _check_lengths(fields: dict[str, Sequence]) -> None:
    """Raises a `ValueError` unless all fields have as many entries as the first."""
    (first, wanted), *others = ((name, len(values)) for name, values in fields.items())
    for name, given in others:
        if given != wanted:
            raise ValueError(
                f"{name} has {given} entries, but {first} has {wanted}: give one for each feature "
                "map"
            )
