"""Repeat factor sampling: images with rare classes are drawn more often.

Gupta et al. 2019, "LVIS", appendix B.2. A class c that is in the share f(c) of the images has the
factor max(1, √(threshold / f(c))), and an image the largest factor of its classes.
"""

import numpy as np

from ssd_jax.data.datasets import Dataset, Part
from ssd_jax.data.folder_records import FolderRecords
from ssd_jax.threads import map_ahead, num_cores, pool_of_threads


def repeat_factors(dataset: Dataset, threshold: float) -> np.ndarray | None:
    """`[images]` float64: how many times as often as others an image is drawn; 1 or more.

    Args:
      dataset: the images. Records of TFDS are read for this.
      threshold: the share of the images below which a class is rare; 0 for None.
    """
    if not threshold:
        return None
    owners, labels, start = [], [], 0
    for part in dataset.parts:
        part_owners, part_labels = _objects(part)
        owners.append(part_owners + start)
        labels.append(part_labels)
        start += len(part)
    pairs = np.unique(np.stack([np.concatenate(owners), np.concatenate(labels)]), axis=1)
    images_with = np.bincount(pairs[1], minlength=len(dataset.class_names) + 1)
    class_factors = np.sqrt(threshold * len(dataset) / np.maximum(images_with, 1))
    factors = np.ones(len(dataset))
    np.maximum.at(factors, pairs[0], class_factors[pairs[1]])
    return factors


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
