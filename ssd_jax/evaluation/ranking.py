"""Precision, recall and average precision of ranked detections. Needs NumPy only."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

# AP from precision and recall `[..., detections]`, as `[...]`.
Average = Callable[[np.ndarray, np.ndarray], np.ndarray]


class Ranking(NamedTuple):
    """The detections of one class over all images, the best first, marked as right or wrong.

    A detection that is neither right nor wrong is ignored. There may be several IoU thresholds.
    """

    image: np.ndarray  # [detections] int: the index of its image among the results
    index: np.ndarray  # [detections] int: its index among the detections of its image
    score: np.ndarray  # [detections]
    right: np.ndarray  # [thresholds, detections] bool
    wrong: np.ndarray  # [thresholds, detections] bool
    object: np.ndarray  # [thresholds, detections] int: the matched object of its image, or -1
    num_objects: np.ndarray  # [images] int: the number of objects to find


class OperatingPoint(NamedTuple):
    """A score threshold of one class, with precision and recall of the detections above it."""

    score: float
    precision: float
    recall: float
    f1: float


def precision_recall(
    ranking: Ranking, weights: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Precision and recall after each detection.

    Args:
      ranking: of a class that has objects.
      weights: `[..., images]`, how often each image counts; None = once.

    Returns:
      Two arrays `[..., thresholds, detections]`.
    """
    if weights is None:
        num_objects = np.sum(ranking.num_objects)
        right, wrong = ranking.right, ranking.wrong
    else:
        num_objects = (weights @ ranking.num_objects)[..., None, None]
        counts = weights[..., None, ranking.image]
        right, wrong = ranking.right * counts, ranking.wrong * counts
    true_positives = np.cumsum(right, axis=-1, dtype=np.float64)
    false_positives = np.cumsum(wrong, axis=-1, dtype=np.float64)
    recall = true_positives / np.maximum(num_objects, 1)
    precision = true_positives / np.maximum(true_positives + false_positives, 1e-12)
    return precision, recall


def envelope(precision: np.ndarray) -> np.ndarray:
    """The best precision at each recall or a higher one."""
    return np.maximum.accumulate(precision[..., ::-1], axis=-1)[..., ::-1]


def interpolated(precision: np.ndarray, recall: np.ndarray, levels: np.ndarray) -> np.ndarray:
    """The mean, over the levels, of the best precision at that recall or above: `[...]`."""
    # The last entry is for recalls that are not reached: their precision is 0.
    end = np.zeros((*precision.shape[:-1], 1))
    best = np.append(envelope(precision), end, axis=-1)
    reached = np.append(recall, end + np.inf, axis=-1)
    length = best.shape[-1]
    rows = zip(best.reshape(-1, length), reached.reshape(-1, length), strict=True)
    means = [row[np.searchsorted(row_recall, levels)].mean() for row, row_recall in rows]
    return np.array(means).reshape(precision.shape[:-1])


def area_under_curve(precision: np.ndarray, recall: np.ndarray) -> np.ndarray:
    """The area under the curve made monotone: `[...]`."""
    return np.sum(np.diff(recall, prepend=0.0, axis=-1) * envelope(precision), axis=-1)


def average_precision(
    ranking: Ranking,
    average: Average,
    weights: np.ndarray | None = None,
) -> np.ndarray:
    """AP of one class, the mean over the thresholds of its ranking.

    Args:
      ranking: by the rules of the metric.
      average: of the metric; see `Metric`.
      weights: `[..., images]`, how often each image counts; None = once.

    Returns:
      `[...]`; NaN without objects.
    """
    values = average(*precision_recall(ranking, weights))
    weights = np.ones(len(ranking.num_objects)) if weights is None else weights
    return np.where(weights @ ranking.num_objects > 0, values.mean(axis=-1), np.nan)


def mean_over_classes(values: np.ndarray) -> float | None:
    """The mean of the classes with objects; None without objects."""
    present = values[~np.isnan(values)]
    return float(present.mean()) if present.size else None


def best_f1(ranking: Ranking) -> OperatingPoint | None:
    """The operating point of the highest F1 score, at the first threshold of IoU.

    Returns:
      None without objects, or without a correct detection.
    """
    if not ranking.num_objects.sum() or not ranking.right[0].any():
        return None
    precision, recall = (values[0] for values in precision_recall(ranking))
    # A threshold includes all detections of the same score.
    last_of_score = np.append(np.diff(ranking.score) != 0, True)
    f1 = 2 * precision * recall / np.maximum(precision + recall, 1e-12)
    best = int(np.argmax(np.where(last_of_score, f1, -1.0)))
    return OperatingPoint(
        float(ranking.score[best]), float(precision[best]), float(recall[best]), float(f1[best])
    )
