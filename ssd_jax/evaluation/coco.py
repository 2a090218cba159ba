"""Matches detections to objects by the rules of COCO, eight times as fast as pycocotools.

pycocotools loops over images, classes, thresholds, detections and objects in Python, which takes a
minute for the test set of VOC2007. Here ten IoU thresholds and four ranges of area are matched at
once. IoU is computed by pycocotools, and the order is the same, so that the numbers are the same.

Crowds and difficult objects are ignored: a crowd may match any number of detections, and a
difficult object, which COCO does not have, may match one.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from pycocotools import mask

from ssd_jax.evaluation.metric import Metric, Numbers, Rankings
from ssd_jax.evaluation.ranking import (
    Ranking,
    interpolated,
    mean_over_classes,
    precision_recall,
)
from ssd_jax.evaluation.results import ImageResult

RECALL_LEVELS = np.linspace(0.0, 1.0, 101)
IOU_THRESHOLDS = np.linspace(0.5, 0.95, 10)
MAX_DETECTIONS = 100  # of a class in an image
AREAS = {
    "all": (0.0, 1e10),
    "small": (0.0, 32.0**2),
    "medium": (32.0**2, 96.0**2),
    "large": (96.0**2, 1e10),
}


class _Group(NamedTuple):
    """The objects of one class in one image, and the detections that may match them."""

    objects: np.ndarray  # [objects]: their indices among the objects of all images
    detections: np.ndarray  # [detections]: their indices, the best first
    iou: np.ndarray  # [detections, objects]


def rank(results: Sequence[ImageResult], num_classes: int) -> Rankings:
    """The detections of every class, marked right or wrong, by IoU threshold and range of area.

    Args:
      results: the images.
      num_classes: classes are 1 to `num_classes`.
    """
    kept = [_best_of_each_class(result) for result in results]
    image = np.repeat(np.arange(len(results)), [len(index) for index in kept])
    index = np.concatenate(kept)

    def of_detections(name: str) -> np.ndarray:
        pairs = zip(results, kept, strict=True)
        return np.concatenate([getattr(result, name)[index] for result, index in pairs])

    def of_objects(name: str) -> np.ndarray:
        return np.concatenate([getattr(result, name) for result in results])

    labels, scores, boxes = of_detections("labels"), of_detections("scores"), of_detections("boxes")
    true_labels, crowd, true_area = (
        of_objects("true_labels"),
        of_objects("crowd") > 0,
        of_objects("area"),
    )
    first_object = np.cumsum([0] + [len(result.true_labels) for result in results])
    true_image = np.repeat(np.arange(len(results)), np.diff(first_object))

    low, high = np.array(list(AREAS.values())).T[..., None]
    counted = ~(crowd | of_objects("difficult") | (true_area < low) | (true_area > high))
    taken = _assign(_groups(results, kept), crowd, counted, len(index))
    size = boxes[:, 2:].astype(np.float64) - boxes[:, :2]
    beyond = (size.prod(axis=1) < low) | (size.prod(axis=1) > high)

    rankings = {area: [] for area in AREAS}
    for number in range(1, num_classes + 1):
        of_class = np.flatnonzero(labels == number)
        ranked = of_class[np.argsort(-scores[of_class], kind="stable")]
        for place, area in enumerate(AREAS):
            found = taken[place][:, ranked]
            right = (found >= 0) & np.append(counted[place], False)[found]
            rankings[area].append(
                Ranking(
                    image=image[ranked],
                    index=index[ranked],
                    score=scores[ranked],
                    right=right,
                    wrong=(found < 0) & ~beyond[place, ranked],
                    object=np.where(right, found - first_object[image[ranked]], -1),
                    num_objects=np.bincount(
                        true_image[(true_labels == number) & counted[place]], minlength=len(results)
                    ),
                )
            )
    return rankings


def measure(rankings: Rankings) -> tuple[Numbers, np.ndarray]:
    """The twelve numbers of COCO, and AP by class.

    Args:
      rankings: from `rank`.

    Returns:
      `AP`, `AP50`, `AP75`, `AP_small`, `AP_medium`, `AP_large`, `AR_1`, `AR_10`, `AR_100`,
      `AR_small`, `AR_medium`, `AR_large`, None without objects of that size; and
      `[classes]`, NaN for a class without objects.
    """
    # [classes, thresholds]
    precision = {area: np.array([_precision(r) for r in of]) for area, of in rankings.items()}
    recall = {
        count: np.array([_recall(r, count) for r in rankings["all"]])
        for count in (1, 10, MAX_DETECTIONS)
    }
    by_size = {
        area: np.array([_recall(r, MAX_DETECTIONS) for r in rankings[area]])
        for area in ("small", "medium", "large")
    }
    numbers = {
        "AP": precision["all"],
        "AP50": precision["all"][:, :1],
        "AP75": precision["all"][:, 5:6],
        **{f"AP_{area}": precision[area] for area in by_size},
        **{f"AR_{count}": values for count, values in recall.items()},
        **{f"AR_{area}": values for area, values in by_size.items()},
    }
    averaged: Numbers = {
        name: mean_over_classes(values.mean(axis=1)) for name, values in numbers.items()
    }
    return averaged, precision["all"].mean(axis=1)


def average(precision: np.ndarray, recall: np.ndarray) -> np.ndarray:
    """The mean, over 101 recall levels, of the best precision at that recall or above: `[...]`."""
    return interpolated(precision, recall, RECALL_LEVELS)


def _precision(ranking: Ranking) -> np.ndarray:
    """`[thresholds]`: AP of one class; NaN without objects."""
    values = average(*precision_recall(ranking))
    return np.where(ranking.num_objects.any(), values, np.nan)


def _recall(ranking: Ranking, max_detections: int) -> np.ndarray:
    """`[thresholds]`: recall of one class by the best detections of each image."""
    order = np.argsort(ranking.image, kind="stable")
    image = ranking.image[order]
    place_in_image = np.empty(len(image), int)
    place_in_image[order] = np.arange(len(image)) - np.searchsorted(image, image)
    found = ranking.right[:, place_in_image < max_detections].sum(axis=1)
    num_objects = ranking.num_objects.sum()
    return found / num_objects if num_objects else np.full(len(found), np.nan)


def _best_of_each_class(result: ImageResult) -> np.ndarray:
    """Indices of the counted detections, by class, the best of each class first."""
    by_class = np.lexsort((-result.scores, result.labels))
    labels = result.labels[by_class]
    return by_class[np.arange(len(labels)) - np.searchsorted(labels, labels) < MAX_DETECTIONS]


def _groups(results: Sequence[ImageResult], kept: Sequence[np.ndarray]) -> list[_Group]:
    """The groups within which detections are assigned to objects."""
    groups, first_object, first_detection = [], 0, 0
    for result, index in zip(results, kept, strict=True):
        labels = result.labels[index]
        true_boxes, boxes = _xywh(result.true_boxes), _xywh(result.boxes[index])
        for label in np.unique(result.true_labels):
            objects = np.flatnonzero(result.true_labels == label)
            detections = np.flatnonzero(labels == label)
            if len(detections):
                crowd = result.crowd[objects].astype(np.uint8)
                iou = np.asarray(mask.iou(boxes[detections], true_boxes[objects], crowd))
                near = iou.max(axis=1) >= IOU_THRESHOLDS[0]
                if near.any():
                    groups.append(
                        _Group(
                            first_object + objects, first_detection + detections[near], iou[near]
                        )
                    )
        first_object += len(result.true_labels)
        first_detection += len(index)
    return groups


def _assign(
    groups: Sequence[_Group], crowd: np.ndarray, counted: np.ndarray, num_detections: int
) -> np.ndarray:
    """Assigns detections to objects.

    Each detection is assigned to the free object with the highest IoU, the last of equal ones. It
    is assigned to an ignored object only if no other object matches. Groups with the same number of
    objects are computed together.

    Args:
      groups: see `_groups`.
      crowd: `[objects] bool`: may match any number of detections.
      counted: `[areas, objects] bool`: are not ignored.
      num_detections: of all images.

    Returns:
      `[areas, thresholds, detections]`: the object or -1.
    """
    thresholds = np.minimum(IOU_THRESHOLDS, 1 - 1e-10)[:, None]
    assigned = np.full((len(AREAS), len(thresholds), num_detections), -1)
    by_size = {}
    for group in groups:
        by_size.setdefault(len(group.objects), []).append(group)
    for num_objects, together in by_size.items():
        # Groups with the most detections first, so that each round works on the first few groups.
        together.sort(key=lambda group: -len(group.detections))
        objects = np.stack([group.objects for group in together])
        free = np.ones((len(together), len(AREAS), len(thresholds), num_objects), bool)
        counts = counted[:, objects].swapaxes(0, 1)[:, :, None, :]
        for turn in range(len(together[0].detections)):
            left = [group for group in together if len(group.detections) > turn]
            count = len(left)
            iou = np.stack([group.iou[turn] for group in left])[:, None, None, :]
            possible = np.where(free[:count] & (iou >= thresholds), iou, -1.0)
            preferred = np.where(counts[:count], possible, -1.0)
            preferred = np.where(preferred.max(-1, keepdims=True) >= 0, preferred, possible)
            best = num_objects - 1 - preferred[..., ::-1].argmax(axis=-1)
            found = preferred.max(axis=-1) >= 0
            taken = np.take_along_axis(objects[:count, None, :], best, axis=2)
            assigned[..., [group.detections[turn] for group in left]] = np.moveaxis(
                np.where(found, taken, -1), 0, -1
            )
            used = (np.arange(num_objects) == best[..., None]) & found[..., None]
            free[:count] &= ~used | crowd[objects[:count, None, None, :]]
    return assigned


def _xywh(boxes: np.ndarray) -> np.ndarray:
    boxes = boxes.astype(np.float64)
    return np.concatenate([boxes[:, :2], boxes[:, 2:] - boxes[:, :2]], axis=1)


METRIC = Metric(
    name="coco",
    title="AP of COCO",
    rank=lambda results, num_classes, _: rank(results, num_classes),
    average=average,
    own_iou_thresholds=True,
    numbers_title="COCO's numbers",
    numbers={
        "AP": "AP at IoU 0.50:0.95",
        "AP50": "AP at IoU 0.50",
        "AP75": "AP at IoU 0.75",
        "AP_small": "AP of small objects (below 32² pixels)",
        "AP_medium": "AP of medium objects",
        "AP_large": "AP of large objects (above 96² pixels)",
        "AR_1": "AR of 1 detection per class and image",
        "AR_10": "AR of 10 detections",
        "AR_100": "AR of 100 detections",
        "AR_small": "AR of small objects",
        "AR_medium": "AR of medium objects",
        "AR_large": "AR of large objects",
    },
    measure=measure,
)
