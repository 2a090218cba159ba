"""The images with which an export to integers measures the ranges of activations."""

from collections.abc import Iterator

import numpy as np
from jaxtyping import UInt8

from ssd_jax.data.datasets import Dataset
from ssd_jax.data.evaluation_batches import evaluation_batches
from ssd_jax.data.sources import open_dataset

MOST_IMAGES = 200  # more images change the ranges little, and each costs a run of the network
BATCH_SIZE = 8


def calibration_images(
    source: str, image_size: int
) -> Iterator[UInt8[np.ndarray, "batch size size 3"]]:
    """Yields up to `MOST_IMAGES` evenly spaced images of a data set, resized as in prediction.

    Args:
      source: the spec of a data set (docs/data.md); of a folder, the images for training.
      image_size: side of the squares that images are resized to, in pixels.

    Returns:
      Batches of up to `BATCH_SIZE` images.

    Raises:
      UserError: there is no such data set; or, when batches are taken, an image cannot be read.
    """
    dataset = _evenly_picked(open_dataset(source, role="train"), MOST_IMAGES)
    batches = evaluation_batches(dataset, image_size=image_size, batch_size=BATCH_SIZE)
    return (batch["image"][batch["mask"]] for batch in batches)


def _evenly_picked(dataset: Dataset, most: int) -> Dataset:
    picked = np.zeros(len(dataset), bool)
    count = min(most, len(dataset))
    picked[np.arange(count) * len(dataset) // count] = True
    ends = np.cumsum([len(part) for part in dataset.parts])
    return dataset.chosen(np.split(picked, ends[:-1]))
