"""Makes evaluation batches, and reads objects and images for reports, without TensorFlow.

A batch is a dictionary as in training (`training_batches.py`), without `broken`, and with

    crowd      [batch, G] bool             a box around many objects
    area       [batch, G] float64          the area of the outline in square pixels, or NaN

G is the largest number of objects of an image in the batch, so all objects are included. The
whole image is on the canvas. `mask` is also false for padding.
"""

import functools
import itertools
import os
from collections.abc import Collection, Iterator, Sequence
from typing import NamedTuple

import numpy as np

from ssd_jax.data.datasets import Dataset
from ssd_jax.data.image_bytes import num_readers
from ssd_jax.data.records import NamedImage, Record
from ssd_jax.errors import UserError
from ssd_jax.images.opening import open_image, upright_size
from ssd_jax.images.resizing import resize_to_square
from ssd_jax.threads import in_background, map_ahead, pool_of_threads

BATCHES_AHEAD = 2


class _Example(NamedTuple):
    """An image of a batch; zeros, and the problem, if it cannot be read."""

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
    """Yields every image of this process once, whole and in order; the last batch is padded.

    Images are opened and resized as in prediction (`ssd_jax/images`), not as in training, so that
    evaluation measures the pixels of later use.

    Every process gets the same number of batches, so that all processes stay in step.

    Args:
      dataset: the images.
      image_size: S.
      batch_size: the number of images in a batch of this process.
      process_index: the index of this process.
      process_count: the number of processes.

    Raises:
      UserError: when batches are taken: an image cannot be read, or too many cannot.
    """
    indices = dataset.share(process_index, process_count)
    prepare = functools.partial(_prepare, dataset, image_size)

    def batches() -> Iterator[dict[str, np.ndarray]]:
        with pool_of_threads(num_readers()) as pool:
            examples = map_ahead(pool, prepare, indices, batch_size + num_readers())
            for _ in range(num_evaluation_batches(dataset, batch_size, process_count)):
                own = list(itertools.islice(examples, batch_size))
                for example in own:
                    if example.error:
                        record = example.record
                        dataset.problems.add_unreadable(record.path, record.image_id, example.error)
                yield _batch(own, image_size, batch_size)

    return in_background(batches(), BATCHES_AHEAD)


def num_evaluation_batches(dataset: Dataset, batch_size: int, process_count: int = 1) -> int:
    """The number of batches of `evaluation_batches`; the largest share determines it."""
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
    """Combines at most `batch_size` examples into arrays, padded with zeros."""
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
    """Yields every record, in order, with the (height, width) of its image.

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

    with pool_of_threads(num_readers()) as pool:
        for record, size in map_ahead(pool, read, range(len(dataset)), 4 * num_readers()):
            if isinstance(size, UserError):
                dataset.problems.add_unreadable(record.path, record.image_id, str(size))
            else:
                yield record, size


def read_images(dataset: Dataset, image_ids: Collection[str]) -> dict[str, NamedImage]:
    """Reads images by their names in results, in the size of their files.

    Unreadable images are left out.

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
