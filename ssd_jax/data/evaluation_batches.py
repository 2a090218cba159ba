"""Evaluation batches, and objects and images for reports: NumPy and threads, no TensorFlow.

A batch is a dictionary as in training (`training_batches.py`), without `broken`, and

    crowd      [batch, G] bool             a box round many objects
    area       [batch, G] float64          of the object's outline in square pixels, or NaN

All objects are there: G is the most that an image of the batch has. The whole image is on the
canvas. `mask` is false for padding, too.
"""

import functools
import itertools
import os
from collections.abc import Collection, Iterator, Sequence
from typing import NamedTuple

import numpy as np

from ssd_jax.data.datasets import Dataset
from ssd_jax.data.records import NamedImage, Record
from ssd_jax.errors import UserError
from ssd_jax.images.opening import open_image, upright_size
from ssd_jax.images.resizing import resize_to_square
from ssd_jax.threads import in_background, map_ahead, num_cores, pool_of_threads

BATCHES_AHEAD = 2


class _Example(NamedTuple):
    """An image of a batch; zeros and what is wrong with it where it cannot be read."""

    record: Record
    image: np.ndarray
    size: tuple[int, ...]
    error: str


def evaluation_batches(
    dataset: Dataset,
    *,
    image_size: int,
    batch_size: int,
    process_index: int = 0,
    process_count: int = 1,
) -> Iterator[dict[str, np.ndarray]]:
    """Every image of this process's share once, whole and in order; the last batch is padded.

    Images are opened and resized as for prediction (`ssd_jax/images`), not as for training: a
    network is evaluated on the pixels that it will be given in use.

    Every process gets the same number of batches, so that all can work in step.

    Args:
      dataset: the images.
      image_size: S.
      batch_size: images a batch for this process.
      process_index: this process.
      process_count: how many processes share the data.

    Raises:
      UserError: when batches are taken: an image cannot be read, or too many cannot.
    """
    indices = dataset.share(process_index, process_count)
    prepare = functools.partial(_prepare, dataset, image_size)

    def batches() -> Iterator[dict[str, np.ndarray]]:
        with pool_of_threads(num_cores()) as pool:
            examples = map_ahead(pool, prepare, indices, batch_size + num_cores())
            for _ in range(num_evaluation_batches(dataset, batch_size, process_count)):
                own = list(itertools.islice(examples, batch_size))
                for example in own:
                    if example.error:
                        record = example.record
                        dataset.problems.add_unreadable(record.path, record.image_id, example.error)
                yield _batch(own, image_size, batch_size)

    return in_background(batches(), BATCHES_AHEAD)


def num_evaluation_batches(dataset: Dataset, batch_size: int, process_count: int = 1) -> int:
    """The number of batches of `evaluation_batches`: as many as the largest share needs."""
    largest_share = max(
        sum(map(len, dataset.shares(index, process_count))) for index in range(process_count)
    )
    return -(-largest_share // batch_size)


def _prepare(dataset: Dataset, image_size: int, index: int) -> _Example:
    record = dataset[index]
    try:
        pixels = np.asarray(open_image(record.image, name="the image"))
    except UserError as error:
        return _Example(record, np.zeros((image_size, image_size, 3), np.uint8), (0, 0), str(error))
    return _Example(record, resize_to_square(pixels, image_size), pixels.shape[:2], "")


def _batch(examples: Sequence[_Example], image_size: int, batch_size: int) -> dict[str, np.ndarray]:
    """Puts examples, at most `batch_size`, into arrays that are padded with zeros."""
    most = max((len(example.record.labels) for example in examples), default=0)
    batch = {
        "image": np.zeros((batch_size, image_size, image_size, 3), np.uint8),
        "window": np.zeros((batch_size, 4), np.float32),
        "boxes": np.zeros((batch_size, most, 4), np.float32),
        "labels": np.zeros((batch_size, most), np.int32),
        "difficult": np.zeros((batch_size, most), bool),
        "crowd": np.zeros((batch_size, most), bool),
        "area": np.zeros((batch_size, most), np.float64),
        "image_id": np.full(batch_size, b"", object),
        "file": np.full(batch_size, b"", object),
        "size": np.zeros((batch_size, 2), np.int32),
        "dropped": np.zeros(batch_size, np.int32),
        "mask": np.zeros(batch_size, bool),
    }
    for i, (record, image, size, error) in enumerate(examples):
        batch["image"][i], batch["size"][i] = image, size
        batch["window"][i] = (0, 0, 1, 1)
        batch["image_id"][i] = os.fsencode(record.image_id)
        batch["file"][i] = os.fsencode(record.path)
        batch["dropped"][i], batch["mask"][i] = record.dropped, not error
        for key in ("boxes", "labels", "difficult", "crowd", "area"):
            values = getattr(record, key)
            batch[key][i, : len(values)] = values
    return batch


def read_objects(dataset: Dataset) -> Iterator[tuple[Record, tuple[int, int]]]:
    """Every record, in order, with the (height, width) of its image.

    Images that cannot be read are left out.

    Raises:
      UserError: an image cannot be read, or too many cannot.
    """

    def read(index: int) -> tuple[Record, tuple[int, int] | UserError]:
        record = dataset[index]
        try:
            return record, upright_size(record.image, name="the image")
        except UserError as error:
            return record, error

    with pool_of_threads(num_cores()) as pool:
        for record, size in map_ahead(pool, read, range(len(dataset)), 4 * num_cores()):
            if isinstance(size, UserError):
                dataset.problems.add_unreadable(record.path, record.image_id, str(size))
            else:
                yield record, size


def read_images(dataset: Dataset, image_ids: Collection[str]) -> dict[str, NamedImage]:
    """The images that results call so, by these names, in the size of their files.

    Those that cannot be read are left out.

    Raises:
      UserError: an image cannot be read, or too many cannot.
    """
    wanted, images = set(image_ids), {}
    for record in (dataset[index] for index in range(len(dataset))):
        if record.image_id not in wanted:
            continue
        try:
            image = open_image(record.image, name="the image")
        except UserError as error:
            dataset.problems.add_unreadable(record.path, record.image_id, str(error))
            continue
        images[record.image_id] = NamedImage(record.name, np.asarray(image))
    return images
