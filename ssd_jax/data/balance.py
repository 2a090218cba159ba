"""Repeat factor sampling: images with rare classes are drawn more often.

Gupta et al. 2019, "LVIS", appendix B.2. A class c that occurs in the share f(c) of the images has
the factor max(1, √(threshold / f(c))). An image has the largest factor of its classes.
"""

import functools

import numpy as np

from ssd_jax.data.datasets import Dataset, Part
from ssd_jax.data.folder_records import FolderRecords
from ssd_jax.errors import first_names
from ssd_jax.threads import map_ahead, num_cores, pool_of_threads

MOST_CLASSES = 20  # the most classes that one line lists


def repeat_factors(dataset: Dataset, threshold: float) -> np.ndarray | None:
    """The repeat factors of images: `[images]` float64 of 1 or more; None without a threshold.

    Args:
      dataset: the images. Records of TFDS are read.
      threshold: the share of the images below which a class is rare; 0 turns repeating off.
    """
    if not threshold:
        return None
    images, labels = images_by_class(dataset)
    images_with = np.bincount(labels, minlength=len(dataset.class_names) + 1)
    class_factors = np.sqrt(threshold * len(dataset) / np.maximum(images_with, 1))
    factors = np.ones(len(dataset))
    np.maximum.at(factors, images, class_factors[labels])
    return factors


def describe_repeats(dataset: Dataset, threshold: float) -> str:
    """Describes the effect of a threshold: how much more often images of each class are drawn.

    Args:
      dataset: see `repeat_factors`.
      threshold: see `repeat_factors`; above 0.
    """
    field, names = f"config.data.repeat_threshold={threshold:g}", dataset.class_names
    images, labels = images_by_class(dataset)
    count = np.bincount(labels, minlength=len(names) + 1)[1:]
    present = np.flatnonzero(count)
    factors = repeat_factors(dataset, threshold)
    assert factors is not None
    if not len(present) or factors.max() == factors.min():
        rarest = present[np.argmin(count[present])] if len(present) else None
        reason = "no image has an object"
        if rarest is not None:
            reason = f"the rarest class, {names[rarest]}, is in {count[rarest]} of {len(dataset):,}"
        return f"{field} draws all images equally often: {reason}"
    drawn = np.bincount(labels, factors[images] / factors.mean(), len(names) + 1)[1:]
    times = drawn[present] / count[present]
    order = np.argsort(-times, kind="stable")
    listed = [f"{names[present[i]]} {times[i]:.2f}" for i in order]
    return f"{field}: images with a class are drawn more often by these factors: " + first_names(
        listed, MOST_CLASSES
    )


@functools.lru_cache(maxsize=1)
def images_by_class(dataset: Dataset) -> tuple[np.ndarray, np.ndarray]:
    """The pairs of an image and a class in it: `[pairs]` images and `[pairs]` labels.

    Cached, because records of TFDS are read, which takes long.
    """
    owners, labels, start = [], [], 0
    for part in dataset.parts:
        part_owners, part_labels = _objects(part)
        owners.append(part_owners + start)
        labels.append(part_labels)
        start += len(part)
    images, of_class = np.unique(np.stack([np.concatenate(owners), np.concatenate(labels)]), axis=1)
    return images, of_class


def _objects(part: Part) -> tuple[np.ndarray, np.ndarray]:
    """The image and the label of each object that is trained on."""
    if isinstance(part, FolderRecords):
        learned = ~part.columns.crowd
        return part.columns.owners()[learned], part.columns.classes[learned]

    def read(index: int) -> np.ndarray:
        record = part[index]
        return record.labels[~record.crowd]

    with pool_of_threads(num_cores()) as pool:
        labels = list(map_ahead(pool, read, range(len(part)), 64))
    owners = np.repeat(np.arange(len(part)), [len(own) for own in labels])
    return owners, np.concatenate(labels)
