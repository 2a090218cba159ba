"""Statistics of a report besides AP: recall by size and shape, confusion, calibration."""

import itertools
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from ssd_jax.evaluation.metric import IOU_THRESHOLD
from ssd_jax.evaluation.ranking import OperatingPoint, Ranking
from ssd_jax.evaluation.results import ImageResult
from ssd_jax.evaluation.voc import inclusive_iou


class Bin(NamedTuple):
    """The objects of one range of size or shape."""

    name: str
    num_objects: int
    recall: float  # of all detections with any score
    recall_at_points: float  # of the detections that reach the operating point of their class


class Calibration(NamedTuple):
    """Calibration in ten ranges of scores: 70 % of detections with score 0.7 should be right."""

    counts: np.ndarray  # [bins]: the number of detections
    scores: np.ndarray  # [bins]: their mean score; NaN without detections
    precision: np.ndarray  # [bins]: the share of right ones; NaN without detections
    expected_error: float  # the mean difference of score and precision over all detections


SIZE_EDGES = (16, 32, 64, 96, 192)  # square root of the area in pixels
SHAPE_EDGES = (1 / 3, 1 / 2, 1 / 1.25, 1.25, 2, 3)  # width : height
SHAPE_NAMES = ("below 1:3", "1:3–1:2", "1:2–4:5", "4:5–5:4", "5:4–2:1", "2:1–3:1", "above 3:1")


def thresholds(points: Sequence[OperatingPoint | None]) -> np.ndarray:
    """`[classes]`: the score of each operating point; infinite if there is none."""
    return np.array([np.inf if point is None else point.score for point in points])


def side(result: ImageResult) -> np.ndarray:
    """`[objects]`: the square root of the area of each object's box, in pixels."""
    return np.sqrt(np.prod(result.true_boxes[:, 2:] - result.true_boxes[:, :2], axis=1))


def aspect_ratio(result: ImageResult) -> np.ndarray:
    """`[objects]`: width over height."""
    width, height = (result.true_boxes[:, 2:] - result.true_boxes[:, :2]).T
    return width / np.maximum(height, 1e-9)


def found_objects(
    results: Sequence[ImageResult], rankings: Sequence[Ranking], least_scores: np.ndarray
) -> list[np.ndarray]:
    """For each image `[objects] bool`: whether a right detection reaches the score of its class."""
    found = [np.zeros(len(result.true_labels), bool) for result in results]
    for ranking, least in zip(rankings, least_scores, strict=True):
        right = np.flatnonzero(ranking.right[0] & (ranking.score >= least))
        for image, number in zip(ranking.image[right], ranking.object[0][right], strict=True):
            found[image][number] = True
    return found


def count_false(
    results: Sequence[ImageResult], rankings: Sequence[Ranking], least_scores: np.ndarray
) -> np.ndarray:
    """`[images] int`: the wrong detections that reach the score of their class."""
    false = np.zeros(len(results), int)
    for ranking, least in zip(rankings, least_scores, strict=True):
        np.add.at(false, ranking.image[ranking.wrong[0] & (ranking.score >= least)], 1)
    return false


def recall_by(
    results: Sequence[ImageResult],
    values: Sequence[np.ndarray],
    edges: Sequence[float],
    names: Sequence[str],
    found: Sequence[np.ndarray],
    found_at_points: Sequence[np.ndarray],
) -> list[Bin]:
    """Recall of the objects in each range; difficult ones and crowds are left out.

    Args:
      results: the images.
      values: for each image `[objects]`.
      edges: between the ranges.
      names: of the ranges, one more than edges.
      found: for each image `[objects] bool`, by all detections.
      found_at_points: the same by detections that reach the operating point.
    """
    asked_for = np.concatenate([~(result.difficult | result.crowd) for result in results])
    place = np.searchsorted(edges, np.concatenate(values), side="right")
    any_found, point_found = np.concatenate(found), np.concatenate(found_at_points)
    bins = []
    for number, name in enumerate(names):
        inside = asked_for & (place == number)
        if inside.any():
            rates = (any_found[inside].mean(), point_found[inside].mean())
            bins.append(Bin(name, int(inside.sum()), *map(float, rates)))
    return bins


def size_names() -> list[str]:
    """Names of the ranges between `SIZE_EDGES`."""
    middle = [f"{low}–{high}" for low, high in itertools.pairwise(SIZE_EDGES)]
    return [f"below {SIZE_EDGES[0]}", *middle, f"above {SIZE_EDGES[-1]}"]


def confusion(
    results: Sequence[ImageResult],
    rankings: Sequence[Ranking],
    least_scores: np.ndarray,
    metric_iou_threshold: float = IOU_THRESHOLD,
) -> np.ndarray:
    """The confusion matrix of annotated and detected classes.

    Only detections that reach the score of their class count. Right detections are on the diagonal.
    Each wrong one, the best first, is paired with the object that it overlaps most among the
    objects without a right detection.

    Args:
      results: the images.
      rankings: of each class, from `voc.rank`.
      least_scores: `[classes]`.
      metric_iou_threshold: IoU that such a pair must exceed.

    Returns:
      `[classes + 1, classes + 1] int`: annotated classes in rows, detected classes in columns; the
      last row is "nothing", the last column "missed".
    """
    nothing = len(rankings)
    matrix = np.zeros((nothing + 1, nothing + 1), int)
    free = [
        ~found & ~(result.difficult | result.crowd)
        for found, result in zip(
            found_objects(results, rankings, least_scores), results, strict=True
        )
    ]
    wrong = []
    for column, (ranking, least) in enumerate(zip(rankings, least_scores, strict=True)):
        shown = ranking.score >= least
        matrix[column, column] += int(np.sum(ranking.right[0] & shown))
        for place in np.flatnonzero(ranking.wrong[0] & shown):
            wrong.append((ranking.score[place], ranking.image[place], ranking.index[place], column))
    for _, image, index, column in sorted(wrong, key=lambda entry: -entry[0]):
        result, row = results[image], nothing
        objects = np.flatnonzero(free[image])
        if len(objects):
            iou = inclusive_iou(result.boxes[index : index + 1], result.true_boxes[objects])[0]
            if iou.max() > metric_iou_threshold:
                taken = objects[iou.argmax()]
                free[image][taken] = False
                row = result.true_labels[taken] - 1
        matrix[row, column] += 1
    for result, left in zip(results, free, strict=True):
        np.add.at(matrix[:, nothing], result.true_labels[left] - 1, 1)
    return matrix


def calibration(rankings: Sequence[Ranking], num_bins: int = 10) -> Calibration:
    """The calibration of scores as probabilities, over all classes."""
    scores, right = counted_scores(rankings)
    place = np.clip((scores * num_bins).astype(int), 0, num_bins - 1)
    counts = np.bincount(place, minlength=num_bins)
    some = np.where(counts > 0, counts, np.nan)
    mean_score = np.bincount(place, scores, minlength=num_bins) / some
    precision = np.bincount(place, right, minlength=num_bins) / some
    error = np.nansum(counts * np.abs(mean_score - precision)) / max(counts.sum(), 1)
    return Calibration(counts, mean_score, precision, float(error))


def counted_scores(rankings: Sequence[Ranking]) -> tuple[np.ndarray, np.ndarray]:
    """`[detections]`: scores of all classes, and whether each is right; without ignored ones."""
    counted = [ranking.right[0] | ranking.wrong[0] for ranking in rankings]
    scores = [ranking.score[some] for ranking, some in zip(rankings, counted, strict=True)]
    right = [ranking.right[0][some] for ranking, some in zip(rankings, counted, strict=True)]
    return np.concatenate([np.zeros(0), *scores]), np.concatenate([np.zeros(0, bool), *right])
