"""Small objects in large images: detection tile by tile, and on the whole image.

A network sees an image at its own size, in which small objects of a large image vanish. So the
image is cut into overlapping squares, each of which is detected in like an image of its own.
"""

import math
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple, TypeVar

import numpy as np

from ssd_jax.errors import UserError
from ssd_jax.inference.detections import AnyImage, Detections, open_as_rgb
from ssd_jax.inference.detector import AnyDetector, Detector, Prepared

OVERLAP = 0.25  # of a tile's side with the next tile: objects of that size are whole in one of them
MIN_TILE = 32  # pixels
BATCH_SIZE = 8  # tiles of images that are given in a list
MAX_TILES = 2000  # of an image: more take minutes, and a gigabyte
CUT = 0.01  # of a tile's side from its border: so near ends what is cut there
MOST_IOU = 0.45  # of detections of a class from different tiles, as in the paper's suppression
MOST_COVERED = 0.5  # of a detection that is cut, by a better one of its class

Key = TypeVar("Key")


class Tile(NamedTuple):
    """A part of an image in whole pixels, its right and bottom excluded."""

    left: int
    top: int
    right: int
    bottom: int


def tiles_of(size: tuple[int, int], side: int) -> list[Tile]:
    """The parts of an image that are detected in: the whole image, then the tiles row by row.

    Args:
      size: height and width of the image.
      side: of the tiles in pixels; they overlap by `OVERLAP` of it or more.

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
            f"{height} pixels, but there may be {MAX_TILES:,}: give larger tiles"
        )
    return [whole] + [
        Tile(left, top, min(left + side, width), min(top + side, height))
        for top in rows
        for left in columns
    ]


def _starts(length: int, side: int) -> list[int]:
    """Where tiles begin along one side of an image, evenly spread; the last one ends with it."""
    count = 1 + max(0, math.ceil((length - side) / (side * (1 - OVERLAP))))
    return [round(index * (length - side) / max(count - 1, 1)) for index in range(count)]


class TiledDetector(AnyDetector):
    """A detector that takes large images apart, and is used like the `Detector` that it wraps."""

    def __init__(self, detector: Detector, tile: int) -> None:
        """Wraps a detector.

        Args:
          detector: detects in the tiles.
          tile: side of the tiles in pixels of the image.

        Raises:
          UserError: the tiles are too small.
        """
        if tile < MIN_TILE:
            raise UserError(f"--tile is {tile}, but must be {MIN_TILE} pixels or more")
        self._detector, self._tile = detector, tile
        self.class_names = detector.class_names
        self.category_ids = detector.category_ids
        self.side = detector.side
        self.least_score = detector.least_score

    def prepare(self, image: AnyImage) -> Prepared:
        """Opens an image, and resizes its tiles: the pixels are `[tiles, size, size, 3] uint8`."""
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
    """The detections of an image from those of its tiles, each object once, the best first.

    Of detections of one class that overlap by more than `MOST_IOU` the best stays. One that ends at
    a border inside the image is cut off there: it comes after all others, and goes where half of
    it lies in one of these.

    Args:
      found: of each tile, in its pixels.
      tiles: where they are.
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
    """`[boxes] bool`: which boxes, in pixels of a tile, end at a border inside the image."""
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
    """`[boxes] bool`: which boxes are of an object that no better one has.

    Args:
      boxes: `[boxes, 4] xyxy` of one class, the best first.
      is_cut: `[boxes] bool`: which of them are cut off.
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
