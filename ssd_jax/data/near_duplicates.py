"""Finds near duplicates: copies, also resized or recompressed ones, and augmented versions.

Two images are near duplicates if nearly all of 128 signs of brightness differences between
neighbours agree, and their thumbnails differ only by the effects of resizing and compression.
"""

import re
from collections.abc import Iterable, Iterator, Sequence

import numpy as np

from ssd_jax.data.datasets import Dataset
from ssd_jax.data.image_bytes import num_readers
from ssd_jax.errors import UserError
from ssd_jax.images.opening import gray_thumbnail
from ssd_jax.threads import map_ahead, pool_of_threads

SIDE = 32  # the side of thumbnails in pixels
CELLS = 8  # the number of differences along a side
MAX_DIFFERENT_BITS = 12  # the most signs, of 2 * CELLS**2, that may differ
# Limits of the mean difference of thumbnails: in levels of brightness, and in standard deviations
# of the images. The second one keeps images with little contrast apart.
MAX_LEVELS = 2.5
MAX_DEVIATIONS = 0.06
ROWS_AT_ONCE = 512
PAIRS_AT_ONCE = 16_384
# Roboflow's name NAME_jpg.rf.HASH: one of several versions of NAME.jpg.
ROBOFLOW_VERSION = re.compile(r"(.+)\.rf\.[0-9A-Za-z]{8,}(\.\w+)?")


def read_thumbnails(dataset: Dataset) -> tuple[np.ndarray, np.ndarray]:
    """Reads the thumbnails of all images; images that cannot be opened have no duplicates.

    Returns:
      `[images, SIDE, SIDE]` uint8, and `[images] bool`: whether the image can be opened.
    """
    thumbnails = np.zeros((len(dataset), SIDE, SIDE), np.uint8)
    readable = np.zeros(len(dataset), bool)

    def read(index: int) -> np.ndarray | None:
        try:
            return gray_thumbnail(dataset[index].image, SIDE, name="the image")
        except UserError:
            return None

    ahead = max(64, num_readers())
    with pool_of_threads(num_readers()) as pool:
        for index, read_one in enumerate(map_ahead(pool, read, range(len(dataset)), ahead)):
            if read_one is not None:
                thumbnails[index], readable[index] = read_one, True
    return thumbnails, readable


def thumbnail_pairs(thumbnails: np.ndarray, readable: np.ndarray) -> Iterator[np.ndarray]:
    """Finds pairs of images that look the same, `[pairs, 2]`, enough to join each group.

    Args:
      thumbnails: `[images, SIDE, SIDE]` uint8.
      readable: `[images] bool`; other images have no duplicates.
    """
    places = np.flatnonzero(readable)
    flat = thumbnails[places].reshape(len(places), -1)
    deviations = flat.std(axis=1, dtype=np.float32)
    bits = difference_bits(thumbnails[places])
    groups = np.arange(len(places))
    for start in range(0, len(places), ROWS_AT_ONCE):
        rows = bits[start : start + ROWS_AT_ONCE]
        # The product of vectors of ±1 is the number of equal signs minus the number of others.
        agreeing = rows @ bits[start:].T >= bits.shape[1] - 2 * MAX_DIFFERENT_BITS
        first, second = np.nonzero(np.triu(agreeing, 1))
        pairs = np.column_stack([first, second]) + start
        while len(pairs):
            some, pairs = pairs[:PAIRS_AT_ONCE], pairs[PAIRS_AT_ONCE:]
            alike = some[_look_alike(flat, deviations, some)]
            yield places[alike]
            groups = joined([np.column_stack([np.arange(len(groups)), groups]), alike], len(groups))
            pairs = pairs[groups[pairs[:, 0]] != groups[pairs[:, 1]]]


def difference_bits(thumbnails: np.ndarray) -> np.ndarray:
    """`[images, 2 * CELLS**2]` float32, ±1: whether brightness rises to the right, or down."""
    count = len(thumbnails)
    cell = SIDE // CELLS
    means = thumbnails.reshape(count, CELLS, cell, CELLS, cell).mean(axis=(2, 4), dtype=np.float32)
    # The last column is compared with the first, so that each cell has a difference.
    right = np.roll(means, -1, axis=2) > means
    down = np.roll(means, -1, axis=1) > means
    bits = np.concatenate([right.reshape(count, -1), down.reshape(count, -1)], axis=1)
    return np.where(bits, np.float32(1), np.float32(-1))


def _look_alike(flat: np.ndarray, deviations: np.ndarray, pairs: np.ndarray) -> np.ndarray:
    """`[pairs] bool`: whether thumbnails differ only by the effects of resizing and compression."""
    first, second = (flat[pairs[:, i]].astype(np.int16) for i in range(2))
    difference = np.abs(first - second).mean(axis=1)
    contrast = deviations[pairs].min(axis=1)
    return difference <= np.minimum(MAX_LEVELS, MAX_DEVIATIONS * contrast)


def versions(names: Sequence[str]) -> np.ndarray:
    """`[images]` int64: the number of each name's group; versions of one image are a group.

    Args:
      names: the names of the image files, with their folders, and with or without suffix.
    """
    numbers: dict[str, int] = {}
    groups = []
    for name in names:
        version = ROBOFLOW_VERSION.fullmatch(name)
        groups.append(numbers.setdefault(f"{version[1]}.rf." if version else name, len(numbers)))
    return np.array(groups, np.int64)


def joined(pairs: Iterable[np.ndarray], count: int) -> np.ndarray:
    """`[count]` int64: the number of each item's group; the items of a pair are in one group.

    Args:
      pairs: arrays `[pairs, 2]`.
      count: the number of items.
    """
    ends = np.concatenate([np.zeros((0, 2), np.int64), *pairs])
    # A late import: it takes a fifth of a second, and few runs need it.
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    graph = coo_array((np.ones(len(ends), bool), (ends[:, 0], ends[:, 1])), (count, count))
    return connected_components(graph, directed=False)[1].astype(np.int64)
