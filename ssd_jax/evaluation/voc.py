"""Matches detections to objects by the rules of the Pascal VOC development kit. Needs NumPy only.

Boxes are inclusive pixels: width = x_max - x_min + 1. Detections of difficult objects are ignored;
crowds, which VOC does not have, are treated the same.
"""

from collections.abc import Sequence

import numpy as np

from ssd_jax.evaluation.metric import IOU_THRESHOLD, Metric, Rankings
from ssd_jax.evaluation.ranking import Ranking, area_under_curve
from ssd_jax.evaluation.results import ImageResult


def inclusive_iou(boxes_a: np.ndarray, boxes_b: np.ndarray) -> np.ndarray:
    """IoU of `[n, 4]` and `[m, 4]` xyxy pixel boxes, corners included, as `[n, m]`."""
    a, b = boxes_a[:, None, :], boxes_b[None, :, :]
    size = np.minimum(a[..., 2:], b[..., 2:]) - np.maximum(a[..., :2], b[..., :2]) + 1
    intersection = np.maximum(size, 0).prod(axis=-1)
    area_a = (boxes_a[:, 2:] - boxes_a[:, :2] + 1).prod(axis=-1)
    area_b = (boxes_b[:, 2:] - boxes_b[:, :2] + 1).prod(axis=-1)
    return intersection / (area_a[:, None] + area_b[None, :] - intersection)


def rank(
    results: Sequence[ImageResult], num_classes: int, metric_iou_threshold: float = IOU_THRESHOLD
) -> list[Ranking]:
    """The detections of every class, marked as right or wrong.

    A detection is right if its IoU with the object of its class that it overlaps most exceeds the
    threshold, and no detection with a higher score matches that object.

    Args:
      results: the images.
      num_classes: classes are 1 to `num_classes`.
      metric_iou_threshold: IoU that a match must exceed.
    """
    first_object = np.cumsum([0] + [len(result.true_labels) for result in results])
    nothing = np.zeros(0, int)
    image, index, labels, scores, best_object, best_iou = ([nothing] for _ in range(6))
    for place, result in enumerate(results):
        iou = np.full((len(result.labels), len(result.true_labels) + 1), -1.0)
        iou[:, :-1] = np.where(
            result.labels[:, None] == result.true_labels[None, :],
            inclusive_iou(result.boxes.astype(np.float64), result.true_boxes.astype(np.float64)),
            -1.0,
        )
        image.append(np.full(len(result.labels), place))
        index.append(np.arange(len(result.labels)))
        labels.append(result.labels)
        scores.append(result.scores)
        best_object.append(iou.argmax(axis=1))
        best_iou.append(iou.max(axis=1))
    image, index, labels, scores, best_object, best_iou = (
        np.concatenate(parts) for parts in (image, index, labels, scores, best_object, best_iou)
    )
    true_labels = np.concatenate([nothing, *(result.true_labels for result in results)])
    true_image = np.repeat(np.arange(len(results)), np.diff(first_object))
    ignored = np.zeros(len(true_labels) + 1, bool)
    ignored[:-1] = np.concatenate([nothing, *(r.difficult | r.crowd for r in results)])

    rankings = []
    for label in range(1, num_classes + 1):
        of_class = np.flatnonzero(labels == label)
        ranked = of_class[np.argsort(-scores[of_class], kind="stable")]
        overlaps = best_iou[ranked] > metric_iou_threshold
        # Indices over all images; -1 selects the last entry, which means no object.
        objects = np.where(overlaps, first_object[image[ranked]] + best_object[ranked], -1)
        first_claim = np.zeros(len(ranked), bool)
        first_claim[np.unique(objects, return_index=True)[1]] = True
        right = overlaps & first_claim & ~ignored[objects]
        counted = true_image[(true_labels == label) & ~ignored[:-1]]
        rankings.append(
            Ranking(
                image=image[ranked],
                index=index[ranked],
                score=scores[ranked],
                right=right[None],
                wrong=(~right & ~(overlaps & ignored[objects]))[None],
                object=np.where(right, best_object[ranked], -1)[None],
                num_objects=np.bincount(counted, minlength=len(results)),
            )
        )
    return rankings


def rank_all(
    results: Sequence[ImageResult], num_classes: int, metric_iou_threshold: float
) -> Rankings:
    """`rank` with the signature of `Metric.rank`, for objects of any area."""
    return {"all": rank(results, num_classes, metric_iou_threshold)}


# The metric of VOC2010 and later years; that of 2007 is in voc07.py.
METRIC = Metric(name="voc", title="AP, area", rank=rank_all, average=area_under_curve)
