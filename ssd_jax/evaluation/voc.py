"""Average precision by the rules of the Pascal VOC development kit. NumPy alone.

VOC2007 reads precision at eleven recalls; from VOC2010 on it is the area under the curve. Boxes
are inclusive pixels: width = x_max - x_min + 1. Difficult objects need not be found, and finding
them costs nothing.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np


class ImageResult(NamedTuple):
    """The ground truth of one image and what was detected. Boxes are pixels of the image."""

    image_id: str
    size: tuple[int, int]  # height and width in pixels
    true_boxes: np.ndarray  # [objects, 4] xyxy
    true_labels: np.ndarray  # [objects] from 1
    difficult: np.ndarray  # [objects] bool
    boxes: np.ndarray  # [detections, 4] xyxy
    scores: np.ndarray  # [detections]
    labels: np.ndarray  # [detections] from 1


class AveragePrecision(NamedTuple):
    """AP of each class, by both rules; NaN for a class without objects (difficult ones apart)."""

    eleven_point: np.ndarray  # [classes]
    area: np.ndarray  # [classes]


def inclusive_iou(boxes_a: np.ndarray, boxes_b: np.ndarray) -> np.ndarray:
    """IoU of `[n, 4]` and `[m, 4]` xyxy pixel boxes, corners included, as `[n, m]`."""
    a, b = boxes_a[:, None, :], boxes_b[None, :, :]
    size = np.minimum(a[..., 2:], b[..., 2:]) - np.maximum(a[..., :2], b[..., :2]) + 1
    intersection = np.maximum(size, 0).prod(axis=-1)
    area_a = (boxes_a[:, 2:] - boxes_a[:, :2] + 1).prod(axis=-1)
    area_b = (boxes_b[:, 2:] - boxes_b[:, :2] + 1).prod(axis=-1)
    return intersection / (area_a[:, None] + area_b[None, :] - intersection)


def average_precision(
    images: Sequence[ImageResult], num_classes: int, iou_threshold: float = 0.5
) -> AveragePrecision:
    """AP of every class over a set of images.

    A detection is right if the object of its class that it overlaps most has an IoU above the
    threshold and no better-scored detection took that object.

    Args:
      images: the results.
      num_classes: classes are 1 to `num_classes`.
      iou_threshold: must be exceeded.
    """
    first_object = np.cumsum([0] + [len(image.true_labels) for image in images])
    labels, scores, best_object, best_iou = [], [], [], []
    for image, first in zip(images, first_object[:-1], strict=True):
        iou = np.full((len(image.labels), len(image.true_labels) + 1), -1.0)
        iou[:, :-1] = np.where(
            image.labels[:, None] == image.true_labels[None, :],
            inclusive_iou(image.boxes.astype(np.float64), image.true_boxes.astype(np.float64)),
            -1.0,
        )
        labels.append(image.labels)
        scores.append(image.scores)
        best_object.append(first + iou.argmax(axis=1))
        best_iou.append(iou.max(axis=1))
    labels, scores, best_object, best_iou = (
        np.concatenate([*parts, np.zeros(0)]) for parts in (labels, scores, best_object, best_iou)
    )
    true_labels = np.concatenate([*(image.true_labels for image in images), np.zeros(0)])
    difficult = np.concatenate([*(image.difficult for image in images), np.zeros(0)]) > 0

    eleven_point, area = np.full(num_classes, np.nan), np.full(num_classes, np.nan)
    for label in range(1, num_classes + 1):
        num_objects = int(((true_labels == label) & ~difficult).sum())
        if num_objects == 0:
            continue
        of_class = np.flatnonzero(labels == label)
        ranked = of_class[np.argsort(-scores[of_class], kind="stable")]
        overlaps = best_iou[ranked] > iou_threshold
        objects = np.where(overlaps, best_object[ranked], -1).astype(int)
        first_claim = np.zeros(len(ranked), bool)
        first_claim[np.unique(objects, return_index=True)[1]] = True
        ignored = overlaps & difficult[np.maximum(objects, 0)] if len(difficult) else overlaps
        right = overlaps & first_claim & ~ignored
        true_positives = np.cumsum(right)
        false_positives = np.cumsum(~right & ~ignored)
        recall = true_positives / num_objects
        precision = true_positives / np.maximum(true_positives + false_positives, 1e-12)
        eleven_point[label - 1] = _eleven_point(recall, precision)
        area[label - 1] = _area(recall, precision)
    return AveragePrecision(eleven_point, area)


def mean_over_classes(values: np.ndarray) -> float:
    """The mean of the classes that have objects; 0 if none has."""
    present = values[~np.isnan(values)]
    return float(present.mean()) if present.size else 0.0


def _eleven_point(recall: np.ndarray, precision: np.ndarray) -> float:
    """The mean of the best precision at recall 0, 0.1, …, 1 or beyond."""
    levels = np.arange(0.0, 1.1, 0.1)
    return sum(precision[recall >= level].max(initial=0.0) for level in levels) / 11


def _area(recall: np.ndarray, precision: np.ndarray) -> float:
    """The area under the curve made monotone: precision at a recall is the best from there on."""
    envelope = np.maximum.accumulate(precision[::-1])[::-1]
    return float(np.sum(np.diff(recall, prepend=0.0) * envelope))
