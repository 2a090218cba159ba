"""Images that show the same: copies, also resized or compressed anew, and augmented versions.

Two images are near duplicates where 128 differences of neighbouring brightnesses agree but for a
few, and their thumbnails are the same but for what resizing and compression change.
"""

import re
from collections.abc import Iterable, Iterator, Sequence

import numpy as np

from ssd_jax.data.datasets import Dataset
from ssd_jax.errors import UserError
from ssd_jax.images.opening import gray_thumbnail
from ssd_jax.threads import map_ahead, num_cores, pool_of_threads

SIDE = 32  # of thumbnails
CELLS = 8  # differences along a side
MAX_DIFFERENT_BITS = 12  # of 2 * CELLS**2
# Mean difference of thumbnails: in levels of brightness, and in standard deviations of the images,
# so that plain images need more than to be plain.
MAX_LEVELS = 2.5
MAX_DEVIATIONS = 0.06
ROWS_AT_ONCE = 512
PAIRS_AT_ONCE = 16_384
# NAME_jpg.rf.HASH is one of several versions that Roboflow makes of NAME.jpg.
ROBOFLOW_VERSION = re.compile(r"(.+)\.rf\.[0-9A-Za-z]{8,}(\.\w+)?")


def read_thumbnails(dataset: Dataset) -> tuple[np.ndarray, np.ndarray]:
    """The thumbnails of all images; those that cannot be opened will be like no other.

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

    with pool_of_threads(num_cores()) as pool:
        for index, read_one in enumerate(map_ahead(pool, read, range(len(dataset)), 64)):
            if read_one is not None:
                thumbnails[index], readable[index] = read_one, True
    return thumbnails, readable


def thumbnail_pairs(thumbnails: np.ndarray, readable: np.ndarray) -> Iterator[np.ndarray]:
    """Pairs of images that look the same, `[pairs, 2]`, enough to join each group.

    Args:
      thumbnails: `[images, SIDE, SIDE]` uint8.
      readable: `[images] bool`; others are like none.
    """
    places = np.flatnonzero(readable)
    flat = thumbnails[places].reshape(len(places), -1)
    deviations = flat.std(axis=1, dtype=np.float32)
    bits = difference_bits(thumbnails[places])
    groups = np.arange(len(places))
    for start in range(0, len(places), ROWS_AT_ONCE):
        rows = bits[start : start + ROWS_AT_ONCE]
        # Of vectors of ±1 the product is the number of equal signs less that of others.
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
    """`[images, 2 * CELLS**2]` float32, ±1: whether brightness rises to the right, or downwards."""
    count = len(thumbnails)
    cell = SIDE // CELLS
    means = thumbnails.reshape(count, CELLS, cell, CELLS, cell).mean(axis=(2, 4), dtype=np.float32)
    # Behind the last column comes the first: as many differences as cells.
    right = np.roll(means, -1, axis=2) > means
    down = np.roll(means, -1, axis=1) > means
    bits = np.concatenate([right.reshape(count, -1), down.reshape(count, -1)], axis=1)
    return np.where(bits, np.float32(1), np.float32(-1))


def _look_alike(flat: np.ndarray, deviations: np.ndarray, pairs: np.ndarray) -> np.ndarray:
    """`[pairs] bool`: whether thumbnails differ by no more than resizing and compression change."""
    first, second = (flat[pairs[:, i]].astype(np.int16) for i in range(2))
    difference = np.abs(first - second).mean(axis=1)
    contrast = deviations[pairs].min(axis=1)
    return difference <= np.minimum(MAX_LEVELS, MAX_DEVIATIONS * contrast)


def versions(names: Sequence[str]) -> np.ndarray:
    """`[images]` int64: a number for each group of names of versions of one image.

    Args:
      names: of the image files, with their folders, and with or without suffix.
    """
    numbers: dict[str, int] = {}
    groups = []
    for name in names:
        version = ROBOFLOW_VERSION.fullmatch(name)
        groups.append(numbers.setdefault(f"{version[1]}.rf." if version else name, len(numbers)))
    return np.array(groups, np.int64)


def joined(pairs: Iterable[np.ndarray], count: int) -> np.ndarray:
    """`[count]` int64: the number of the group of each, where pairs lie in one group.

    Args:
      pairs: arrays `[pairs, 2]`.
      count: how many there are.
    """
    ends = np.concatenate([np.zeros((0, 2), np.int64), *pairs])
    # Not earlier: imported they take a fifth of a second, which only a run that is cut needs.
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    graph = coo_array((np.ones(len(ends), bool), (ends[:, 0], ends[:, 1])), (count, count))
    return connected_components(graph, directed=False)[1].astype(np.int64)
