"""The images by which an export to whole numbers measures how large activations are."""

from collections.abc import Iterator

import numpy as np
from jaxtyping import UInt8

from ssd_jax.data.datasets import Dataset
from ssd_jax.data.evaluation_batches import evaluation_batches
from ssd_jax.data.sources import open_dataset

MOST_IMAGES = (
    200  # more change ranges of activations by little, and each costs a run of the network
)
BATCH_SIZE = 8


def calibration_images(
    source: str, image_size: int
) -> Iterator[UInt8[np.ndarray, "batch size size 3"]]:
    """Up to `MOST_IMAGES` images of a data set, evenly picked, whole, as they are predicted on.

    Args:
      source: a data set, as docs/data.md has it; of a folder the images for training.
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
