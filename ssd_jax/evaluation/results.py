"""The ground truth of an image and its detections. Needs NumPy only."""

import json
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np


class ImageResult(NamedTuple):
    """The ground truth of one image and its detections. Boxes are in pixels of the image."""

    image_id: str
    size: tuple[int, int]  # height and width in pixels
    true_boxes: np.ndarray  # [objects, 4] xyxy
    true_labels: np.ndarray  # [objects] from 1
    difficult: np.ndarray  # [objects] bool: need not be found
    crowd: np.ndarray  # [objects] bool: a box around many objects, which need not be found
    area: np.ndarray  # [objects] in square pixels: of COCO's outline, otherwise of the box
    boxes: np.ndarray  # [detections, 4] xyxy, the best first
    scores: np.ndarray  # [detections]
    labels: np.ndarray  # [detections] from 1


def image_result(
    image_id: str,
    size: tuple[int, int],
    true_boxes: np.ndarray,
    true_labels: np.ndarray,
    difficult: np.ndarray,
    crowd: np.ndarray,
    area: np.ndarray,
) -> ImageResult:
    """An image without detections.

    Args:
      image_id: its name.
      size: height and width in pixels.
      true_boxes: `[objects, 4] xyxy` in [0, 1].
      true_labels: `[objects]` from 1.
      difficult: `[objects] bool`.
      crowd: `[objects] bool`.
      area: `[objects]` in square pixels; NaN = the area of the box.
    """
    # Rounding to thousandths of a pixel restores the exact numbers of the annotation file.
    boxes = np.round(np.asarray(true_boxes, np.float64) * pixel_scale(size), 3)
    box_area = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    return ImageResult(
        image_id=image_id,
        size=size,
        true_boxes=boxes,
        true_labels=true_labels,
        difficult=difficult,
        crowd=crowd,
        area=np.where(np.isnan(area), box_area, area),
        boxes=np.zeros((0, 4)),
        scores=np.zeros(0, np.float32),
        labels=np.zeros(0, np.int32),
    )


def pixel_scale(size: tuple[int, int]) -> np.ndarray:
    """`[4]`: the factors that convert `xyxy` in [0, 1] to pixels."""
    height, width = size
    return np.array([width, height, width, height], np.float64)


def sort_results(results: Sequence[ImageResult]) -> list[ImageResult]:
    """Sorts results by image id, numbers by value: the order does not depend on the processes.

    The order of the images decides between detections of the same score, as in pycocotools.
    """

    def key(result: ImageResult):
        is_number = result.image_id.isascii() and result.image_id.isdigit()
        return (0, int(result.image_id), "") if is_number else (1, 0, result.image_id)

    return sorted(results, key=key)


OF_OBJECTS = ("true_boxes", "true_labels", "difficult", "crowd", "area")
OF_DETECTIONS = ("boxes", "scores", "labels")


def pack_results(results: Sequence[ImageResult]) -> dict[str, np.ndarray]:
    """Packs results into a few arrays for other processes; `unpack_results` reads them."""
    names = json.dumps([result.image_id for result in results]).encode()
    arrays = {
        "image_ids": np.frombuffer(names, np.uint8),
        "sizes": np.array([result.size for result in results], np.int64).reshape(-1, 2),
        "num_objects": np.array([len(result.true_labels) for result in results], np.int64),
        "num_detections": np.array([len(result.labels) for result in results], np.int64),
    }
    for name in (*OF_OBJECTS, *OF_DETECTIONS) if results else ():
        arrays[name] = np.concatenate([getattr(result, name) for result in results])
    return arrays


def unpack_results(arrays: Mapping[str, np.ndarray]) -> list[ImageResult]:
    """The results that `pack_results` packed."""
    names = json.loads(arrays["image_ids"].tobytes())
    if not names:
        return []
    columns = {}
    for counts, of_these in (("num_objects", OF_OBJECTS), ("num_detections", OF_DETECTIONS)):
        starts = np.cumsum(arrays[counts])[:-1]
        columns |= {name: np.split(arrays[name], starts) for name in of_these}
    return [
        ImageResult(name, (height, width), **{key: parts[i] for key, parts in columns.items()})
        for i, (name, (height, width)) in enumerate(
            zip(names, arrays["sizes"].tolist(), strict=True)
        )
    ]
