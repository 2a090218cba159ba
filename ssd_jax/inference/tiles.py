"""Detects small objects in large images: in overlapping tiles, and in the whole image.

A network resizes images to its input size, in which small objects of a large image disappear. So
the image is divided into overlapping squares, and the network detects in each of them.
"""

import math
import numbers
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple, TypeVar

import numpy as np

from ssd_jax.errors import UserError
from ssd_jax.inference.detections import AnyImage, Detections, open_as_rgb
from ssd_jax.inference.detector import AnyDetector, Detector, Prepared

OVERLAP = 0.25  # of the tile side, with the next tile: objects of this size are whole in one tile
MIN_TILE = 32  # pixels
BATCH_SIZE = 8  # tiles, for a list of images
MAX_TILES = 2000  # per image: more take minutes, and a gigabyte
CUT = 0.01  # of the tile side: boxes that end this near to a border are cut there
MOST_IOU = 0.45  # IoU of detections of a class from different tiles, as in the paper's suppression
MOST_COVERED = 0.5  # the covered part of a cut detection, by a better one of its class

Key = TypeVar("Key")


class Tile(NamedTuple):
    """A part of an image in whole pixels, its right and bottom excluded."""

    left: int
    top: int
    right: int
    bottom: int


def tiles_of(size: tuple[int, int], side: int) -> list[Tile]:
    """The tiles of an image: the whole image, then squares row by row.

    Args:
      size: height and width of the image.
      side: the side of the squares in pixels; they overlap by at least `OVERLAP` of it.

    Raises:
      UserError: there are more than `MAX_TILES`.
    """
    height, width = size
    whole = Tile(0, 0, width, height)
    rows, columns = _starts(height, side), _starts(width, side)
    if len(rows) * len(columns) == 1:
        return [whole]
    if len(rows) * len(columns) > MAX_TILES:
        raise UserError(
            f"--tile={side} makes {len(rows) * len(columns):,} tiles of an image of {width} × "
            f"{height} pixels, but the limit is {MAX_TILES:,}: use larger tiles"
        )
    return [whole] + [
        Tile(left, top, min(left + side, width), min(top + side, height))
        for top in rows
        for left in columns
    ]


def _starts(length: int, side: int) -> list[int]:
    """The starts of tiles along one side of an image, evenly spaced; the last tile ends with it."""
    count = 1 + max(0, math.ceil((length - side) / (side * (1 - OVERLAP))))
    return [round(index * (length - side) / max(count - 1, 1)) for index in range(count)]


class TiledDetector(AnyDetector):
    """A detector that divides large images into tiles, with the interface of its `Detector`."""

    def __init__(self, detector: Detector, tile: int) -> None:
        """Wraps a detector.

        Args:
          detector: the detector of the tiles.
          tile: side of the tiles in pixels of the image.

        Raises:
          UserError: the tiles are too small, or their side is no whole number.
        """
        if not isinstance(tile, numbers.Integral) or tile < MIN_TILE:
            raise UserError(
                f"--tile is {tile!r}, but must be a whole number of {MIN_TILE} pixels or more"
            )
        self._detector, self._tile = detector, tile
        self.class_names = detector.class_names
        self.category_ids = detector.category_ids
        self.side = detector.side
        self.least_score = detector.least_score

    def prepare(self, image: AnyImage) -> Prepared:
        """Opens an image, and resizes its tiles to pixels `[tiles, size, size, 3] uint8`."""
        rgb = open_as_rgb(image)
        size = (rgb.height, rgb.width)
        pixels = [
            self._detector.prepare(rgb if index == 0 else rgb.crop(tile)).pixels
            for index, tile in enumerate(tiles_of(size, self._tile))
        ]
        return Prepared(image, size, np.stack(pixels))

    def _batch_size(self, count: int) -> int:
        del count
        return BATCH_SIZE

    def stream(
        self, images: Iterable[tuple[Key, Prepared]], batch_size: int
    ) -> Iterator[tuple[Key, Detections]]:
        """Detects on any number of images, in batches of tiles; see `AnyDetector`."""

        def tiles() -> Iterator[tuple[tuple[Key, Prepared, int], Prepared]]:
            for key, prepared in images:
                for index, tile in enumerate(tiles_of(prepared.size, self._tile)):
                    size = (tile.bottom - tile.top, tile.right - tile.left)
                    part = Prepared(prepared.image, size, prepared.pixels[index])
                    yield (key, prepared, index), part

        found: list[Detections] = []
        for (key, prepared, index), detections in self._detector.stream(tiles(), batch_size):
            found.append(detections)
            if index + 1 == len(prepared.pixels):
                yield key, merged(found, tiles_of(prepared.size, self._tile), prepared)
                found = []


def merged(found: Sequence[Detections], tiles: Sequence[Tile], prepared: Prepared) -> Detections:
    """Merges the detections of tiles to detections of an image, each object once, the best first.

    Of detections of one class that overlap by more than `MOST_IOU`, the best one is kept.
    Detections that end at a border inside the image are cut: they come after all others, and are
    removed if half of their area is inside another detection.

    Args:
      found: the detections of each tile, in its pixels.
      tiles: the positions of the tiles.
      prepared: the image.
    """
    first = found[0]
    boxes = np.concatenate(
        [each.boxes + np.tile(tile[:2], 2) for each, tile in zip(found, tiles, strict=True)]
    )
    scores = np.concatenate([each.scores for each in found])
    labels = np.concatenate([each.labels for each in found])
    is_cut = np.concatenate(
        [_is_cut(each.boxes, tile, prepared.size) for each, tile in zip(found, tiles, strict=True)]
    )
    order = np.lexsort((-scores, is_cut))
    of_classes = [order[labels[order] == label] for label in np.unique(labels)]
    kept = [ranked[_is_new(boxes[ranked], is_cut[ranked])] for ranked in of_classes]
    best = np.concatenate([*kept, np.zeros(0, np.int64)])
    best = best[np.argsort(-scores[best], kind="stable")]
    return Detections(
        boxes=boxes[best],
        scores=scores[best],
        labels=labels[best],
        class_names=first.class_names,
        category_ids=first.category_ids,
        image=prepared.image,
        size=prepared.size,
    )


def _is_cut(boxes: np.ndarray, tile: Tile, size: tuple[int, int]) -> np.ndarray:
    """`[boxes] bool`: whether a box, in pixels of a tile, ends at a border inside the image."""
    height, width = tile.bottom - tile.top, tile.right - tile.left
    near = CUT * max(height, width)
    at_border = np.stack(
        [
            boxes[:, 0] < near,
            boxes[:, 1] < near,
            boxes[:, 2] > width - near,
            boxes[:, 3] > height - near,
        ]
    )
    inside = [tile.left > 0, tile.top > 0, tile.right < size[1], tile.bottom < size[0]]
    return np.any(at_border & np.array(inside)[:, None], axis=0)


def _is_new(boxes: np.ndarray, is_cut: np.ndarray) -> np.ndarray:
    """`[boxes] bool`: whether a box has an object without a better box.

    Args:
      boxes: `[boxes, 4] xyxy` of one class, the best first.
      is_cut: `[boxes] bool`: whether the box is cut.
    """
    areas = np.prod(boxes[:, 2:] - boxes[:, :2], axis=1)
    is_new = np.ones(len(boxes), bool)
    for index in range(len(boxes)):
        if is_new[index]:
            others, rest = boxes[index + 1 :], areas[index + 1 :]
            sides = np.minimum(boxes[index, 2:], others[:, 2:])
            sides -= np.maximum(boxes[index, :2], others[:, :2])
            shared = np.prod(np.maximum(sides, 0), axis=1)
            is_double = shared > MOST_IOU * (areas[index] + rest - shared)
            is_double |= is_cut[index + 1 :] & (shared > MOST_COVERED * rest)
            is_new[index + 1 :] &= ~is_double
    return is_new
