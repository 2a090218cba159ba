"""Fits the shapes of default boxes to the objects of a data set, by clustering."""

import dataclasses
import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np
from scipy.cluster.vq import kmeans2

from ssd_jax.detection.default_boxes import Shapes, Tiling

# An object belongs to the coarsest map whose stride, times this factor, is at most its side. Each
# factor gives one candidate.
STEPS_PER_SIDE = (1.0, 1.5, 2.0, 2.5, 3.0, 4.0)


def clustered(objects: np.ndarray, tiling: Tiling) -> Iterator[Tiling]:
    """Yields tilings with clustered shapes; the caller measures which one fits best.

    They have as many boxes as the given one.

    Args:
      objects: `[objects, 2]` widths and heights in pixels of the input.
      tiling: the maps, and the number of boxes of each.
    """
    for steps_per_side in STEPS_PER_SIDE:
        yield dataclasses.replace(tiling, shapes=cluster(objects, tiling, steps_per_side))


def cluster(objects: np.ndarray, tiling: Tiling, steps_per_side: float) -> tuple[Shapes, ...]:
    """Returns default boxes from clusters of the objects' shapes, as many per map as before.

    Every object goes to one map by its size, and k-means over the logarithms of width and height
    finds the shapes of each map: the IoU of boxes with one centre depends on ratios of sides alone.

    Args:
      objects: `[objects, 2]` widths and heights in pixels of the input.
      tiling: the maps, and the number of boxes of each.
      steps_per_side: see `STEPS_PER_SIDE`.
    """
    sides = np.sqrt(objects.prod(axis=1))
    reach = steps_per_side * np.array(tiling.strides)
    predicting = [i for i, shapes in enumerate(tiling.shapes) if shapes]
    owner = np.array(
        [max((i for i in predicting if reach[i] <= side), default=predicting[0]) for side in sides]
    )
    maps = []
    for i, shapes in enumerate(tiling.shapes):
        own = np.log(objects[owner == i])
        if not shapes or len(np.unique(own, axis=0)) < len(shapes):
            maps.append(_rounded(shapes))  # too few objects to cluster
            continue
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # an empty cluster keeps its initial shape
            options: dict[str, Any] = {"minit": "++", "seed": 0}  # missing in SciPy's types
            centres, _ = kmeans2(own, len(shapes), iter=50, **options)
        maps.append(_rounded(np.exp(centres[np.argsort(centres.sum(axis=1))])))
    return tuple(maps)


def _rounded(shapes: Shapes | np.ndarray) -> Shapes:
    return tuple((round(float(width), 1), round(float(height), 1)) for width, height in shapes)
