"""Measures how well default boxes fit the objects of a data set, and searches for better ones."""

from typing import NamedTuple

import numpy as np
from ml_collections import ConfigDict

from ssd_jax.config.schema import Config, as_config
from ssd_jax.data.choice import open_training_data
from ssd_jax.data.datasets import Dataset
from ssd_jax.data.image_bytes import num_readers
from ssd_jax.data.problems import make_problems
from ssd_jax.data.sources import open_dataset
from ssd_jax.detection.box_clusters import clustered
from ssd_jax.detection.default_boxes import Tiling
from ssd_jax.detection.fit import Fit, measure
from ssd_jax.errors import UserError
from ssd_jax.models.network import build_network
from ssd_jax.threads import map_ahead, pool_of_threads


class FitResult(NamedTuple):
    """The result of `fit_boxes`.

    Attributes:
      num_images: the number of images that were read.
      objects: `[objects, 2]` widths and heights in pixels of the input.
      tiling: the default boxes of the config.
      current: their fit.
      proposed_tiling: the same number of default boxes with a better fit; None if none was found.
      proposed: the fit of the proposed boxes.
    """

    num_images: int
    objects: np.ndarray
    tiling: Tiling
    current: Fit
    proposed_tiling: Tiling | None = None
    proposed: Fit | None = None

    def fits(self) -> dict[str, tuple[Fit, Tiling]]:
        """`current`, and `proposed` if there is one."""
        fits = {"current": (self.current, self.tiling)}
        if self.proposed is not None and self.proposed_tiling is not None:
            fits["proposed"] = (self.proposed, self.proposed_tiling)
        return fits


def fit_boxes(config: Config | ConfigDict, source: str = "", num_images: int = 2000) -> FitResult:
    """Measures the default boxes of a config, and searches for better ones of the same number.

    Args:
      config: the default boxes, the classes, and the matching that training will use.
      source: the data with the objects; "" for the training data.
      num_images: the maximum number of images to read.

    Raises:
      UserError: the config or the source is wrong, or there are no objects.
    """
    config = as_config(config)
    if num_images < 1:
        raise UserError(f"images is {num_images}, but must be 1 or more")
    data = config.data
    if source:
        problems = make_problems(data)
        dataset = open_dataset(source, data.class_names, problems, data.renamed_classes)
    else:
        dataset = open_training_data(config)
    tiling = build_network(config.model, len(dataset.class_names)).tiling
    images = _read_boxes(dataset, num_images)
    if not sum(map(len, images)):
        raise UserError(f"{source or data.train}: no image has an object")
    objects = np.concatenate([boxes[:, 2:] - boxes[:, :2] for boxes in images]) * tiling.image_size

    current = measure(images, tiling, config.loss)
    found = [(current, tiling)]
    for candidate in clustered(objects, tiling):
        found.append((measure(images, candidate, config.loss), candidate))
    best, best_tiling = max(
        found, key=lambda fit: (round(fit[0].recall(), 3), fit[0].best_iou.mean())
    )
    if best is current:
        return FitResult(len(images), objects, tiling, current)
    return FitResult(len(images), objects, tiling, current, best_tiling, best)


def _read_boxes(dataset: Dataset, num_images: int) -> list[np.ndarray]:
    """`[objects, 4] xyxy` of random images, without crowds."""
    chosen = np.random.default_rng(0).permutation(len(dataset))[:num_images].tolist()
    with pool_of_threads(num_readers()) as pool:
        records = map_ahead(pool, dataset.__getitem__, chosen, 4 * num_readers())
        return [record.boxes[~record.crowd] for record in records]
