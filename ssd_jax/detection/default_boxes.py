"""Default boxes: the fixed boxes that SSD places on every cell of its feature maps.

Paper section 2.2; sizes and rounding as in Caffe's `prior_box_layer.cpp`.
"""

import dataclasses
import math

import numpy as np


@dataclasses.dataclass(frozen=True)
class Tiling:
    """How default boxes are laid over an image. One entry a feature map in every tuple.

    Attributes:
      image_size: side of the square input, in pixels.
      feature_sizes: side of each square feature map, in cells.
      steps: distance of neighbouring cell centres, in pixels of the input.
      min_sizes: s, the side of the small square box, in pixels.
      max_sizes: s', so that the large square box has the side sqrt(s * s').
      aspect_ratios: the ratios a > 1; each adds a box of ratio a and one of 1 / a.
      whole_pixels: whether sizes are cut down to whole pixels, as by Caffe (ssd.pytorch does not).
      clip: whether centres and sizes are clipped to [0, 1], as by ssd.pytorch (Caffe does not).
    """

    image_size: int
    feature_sizes: tuple[int, ...]
    steps: tuple[float, ...]
    min_sizes: tuple[float, ...]
    max_sizes: tuple[float, ...]
    aspect_ratios: tuple[tuple[float, ...], ...]
    whole_pixels: bool = True
    clip: bool = False

    def __post_init__(self):
        for field in ("steps", "min_sizes", "max_sizes", "aspect_ratios"):
            given, wanted = len(getattr(self, field)), len(self.feature_sizes)
            if given != wanted:
                raise ValueError(
                    f"{field} has {given} entries, but feature_sizes has {wanted}: "
                    "give one for each feature map"
                )

    @property
    def boxes_per_cell(self) -> tuple[int, ...]:
        """Default boxes on one cell of each feature map: two squares and two per ratio."""
        return tuple(2 + 2 * len(ratios) for ratios in self.aspect_ratios)

    @property
    def num_boxes(self) -> int:
        """Default boxes in all."""
        return sum(
            size * size * boxes
            for size, boxes in zip(self.feature_sizes, self.boxes_per_cell, strict=True)
        )


def default_boxes(tiling: Tiling) -> np.ndarray:
    """Lays out all default boxes of a tiling.

    Feature map after feature map, cell after cell row by row, and within a cell: the small
    square, the large square, then (wide, tall) for each aspect ratio.

    Returns:
      `[boxes, 4] cxcywh` float32, fractions of the image.
    """
    layers = []
    for feature_size, step, min_size, max_size, ratios in zip(
        tiling.feature_sizes,
        tiling.steps,
        tiling.min_sizes,
        tiling.max_sizes,
        tiling.aspect_ratios,
        strict=True,
    ):
        if tiling.whole_pixels:
            min_size, max_size = int(min_size), int(max_size)
        small, large = min_size, math.sqrt(min_size * max_size)
        sizes = [(small, small), (large, large)]
        for ratio in ratios:
            root = math.sqrt(ratio)
            sizes += [(small * root, small / root), (small / root, small * root)]

        centres = (np.arange(feature_size) + 0.5) * step
        y, x = np.meshgrid(centres, centres, indexing="ij")
        layer = np.empty((feature_size, feature_size, len(sizes), 4))
        layer[..., 0] = x[..., None]
        layer[..., 1] = y[..., None]
        layer[..., 2:] = sizes
        layers.append(layer.reshape(-1, 4))
    boxes = (np.concatenate(layers) / tiling.image_size).astype(np.float32)
    return np.clip(boxes, 0, 1) if tiling.clip else boxes
