"""Changes a network to a larger or smaller input."""

import math
from typing import Any

from ssd_jax.config.schema import ModelConfig


def fields_of_size(settings: ModelConfig, size: int) -> dict[str, Any]:
    """The fields of `config.model` for another size of the input.

    Default boxes keep their sizes in proportion to the image. Each feature map has half the cells
    of the one before, rounded up, because convolutions of stride 2 are padded; in the paper's
    SSD300 the last two are not.

    Args:
      settings: for another size; the last feature map has one cell, as wide as the image.
      size: side of the square input, in pixels.
    """
    cells = [math.ceil(size / settings.strides[0])]
    while len(cells) < len(settings.strides):
        cells.append(-(-cells[-1] // 2))
    factor = size / settings.strides[-1]
    return {
        "image_size": size,
        "feature_sizes": tuple(cells),
        "strides": tuple(size / count for count in cells),
        "min_sizes": tuple(round(side * factor) for side in settings.min_sizes),
        "max_sizes": tuple(round(side * factor) for side in settings.max_sizes),
    }
