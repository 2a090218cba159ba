"""Kinds of errors and their costs: the analysis of Hoiem et al. (ECCV 2012), as in the SSD paper.

Every detection is correct, or has one of four errors:

    localisation   its IoU with an object of its class is 0.1 or more, but too low for a match, or
                   another detection matches the object
    similar        it overlaps an object of a similar class
    other          it overlaps an object of another class
    background     it overlaps no object

Two boxes overlap if their IoU is `WEAK_IOU` or more. An object is undetected if no detection of its
class, with any score, overlaps it.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from ssd_jax.evaluation.ranking import Average, Ranking, area_under_curve, average_precision
from ssd_jax.evaluation.results import ImageResult
from ssd_jax.evaluation.voc import inclusive_iou

KINDS = ("correct", "localisation", "similar", "other", "background")
CORRECT, LOCALISATION, SIMILAR, OTHER, BACKGROUND = range(5)
IGNORED = -1

# The names of the kinds in tables, figures and texts, and their meanings.
NAMES = {
    "correct": "correct",
    "localisation": "inaccurate box",
    "similar": "similar class",
    "other": "other class",
    "background": "background",
    "undetected": "undetected object",
}
MEANINGS = {
    "localisation": "overlaps its object too little, or the object is already found",
    "similar": "overlaps an object of a similar class",
    "other": "overlaps an object of another class",
    "background": "overlaps no object",
    "undetected": "no detection of its class overlaps it",
}

WEAK_IOU = 0.1  # minimum IoU of an overlap


class ErrorAnalysis(NamedTuple):
    """The kinds of the detections of each class, in the order of its ranking."""

    kinds: list[np.ndarray]  # for each class [detections] int, an index into KINDS or IGNORED
    objects: list[np.ndarray]  # for each class [detections] int: the object of the class overlapped
    undetected: list[np.ndarray]  # for each image [objects] bool: no detection overlaps the object


def analyse(
    results: Sequence[ImageResult],
    rankings: Sequence[Ranking],
    class_names: Sequence[str],
    similar_groups: Sequence[set[str]],
) -> ErrorAnalysis:
    """Assigns a kind to every detection.

    Args:
      results: the images.
      rankings: of each class, from `voc.rank`.
      class_names: class i + 1 is called `class_names[i]`.
      similar_groups: classes in the same group are similar.
    """
    are_similar = np.zeros((len(class_names) + 1,) * 2, bool)
    for i, first in enumerate(class_names, start=1):
        for j, second in enumerate(class_names, start=1):
            are_similar[i, j] = i != j and any({first, second} <= group for group in similar_groups)

    wrong_kinds, objects = [], []
    for result in results:
        iou = np.zeros((len(result.labels), len(result.true_labels) + 1))
        iou[:, :-1] = inclusive_iou(result.boxes, result.true_boxes)
        true_labels = np.append(result.true_labels, 0)  # the last column: no object
        same = result.labels[:, None] == true_labels
        similar = are_similar[result.labels][:, true_labels]

        def overlaps(such: np.ndarray, iou: np.ndarray = iou) -> np.ndarray:
            return np.max(iou, axis=1, where=such, initial=0.0) >= WEAK_IOU

        kind = np.where(overlaps(np.ones_like(same)), OTHER, BACKGROUND)
        kind[overlaps(similar)] = SIMILAR
        kind[overlaps(same)] = LOCALISATION
        wrong_kinds.append(kind)
        objects.append(np.where(same, iou, -1.0).argmax(axis=1))

    undetected = [~(result.difficult | result.crowd) for result in results]
    kinds_of_class, objects_of_class = [], []
    first = np.cumsum([0] + [len(result.labels) for result in results])
    all_kinds, all_objects = np.concatenate(wrong_kinds), np.concatenate(objects)
    for ranking in rankings:
        place = first[ranking.image] + ranking.index
        kind = np.where(ranking.right[0], CORRECT, all_kinds[place])
        kind = np.where(ranking.right[0] | ranking.wrong[0], kind, IGNORED)
        kinds_of_class.append(kind)
        objects_of_class.append(all_objects[place])
        near = (kind == CORRECT) | (kind == LOCALISATION)
        for image, number in zip(ranking.image[near], all_objects[place][near], strict=True):
            undetected[image][number] = False
    return ErrorAnalysis(kinds_of_class, objects_of_class, undetected)


def possible_kinds(class_names: Sequence[str], similar_groups: Sequence[set[str]]) -> list[str]:
    """The kinds of errors that are possible with these classes; see `analyse`."""
    absent = {"other"} if len(class_names) == 1 else set()
    if all(len(group.intersection(class_names)) < 2 for group in similar_groups):
        absent.add("similar")
    return [kind for kind in KINDS if kind not in absent]


def name_with_key(kind: str) -> str:
    """The name of a kind, with its key in `results.json` if the name does not begin with it."""
    name = NAMES[kind]
    return name if name.startswith(kind) else f"{name} ({kind})"


def costs(
    results: Sequence[ImageResult],
    rankings: Sequence[Ranking],
    analysis: ErrorAnalysis,
    average: Average,
) -> dict[str, np.ndarray]:
    """The cost of each kind of error: the increase of AP without it.

    Poorly localised detections count as correct if no other detection found their object, and are
    removed otherwise. Detections of the other kinds are removed. Undetected objects are not
    counted. One kind is changed at a time, so the costs do not add up to the missing AP.

    Args:
      results: the images.
      rankings: of each class, from `voc.rank`.
      analysis: of these results.
      average: of the metric, "voc07" or "voc"; see `Metric`.

    Returns:
      For each kind except "correct", and for "undetected": `[classes]`, NaN for a class without
      objects.
    """
    gains = {name: [] for name in (*KINDS[1:], "undetected")}
    for number, ranking in enumerate(rankings):
        ap = average_precision(ranking, average)
        kinds = analysis.kinds[number]
        for kind in range(LOCALISATION, BACKGROUND + 1):
            corrected = ranking._replace(wrong=ranking.wrong & (kinds != kind))
            if kind == LOCALISATION:
                moved = _first_at_unfound(results, ranking, kinds, analysis.objects[number])
                corrected = corrected._replace(right=ranking.right | moved)
            gains[KINDS[kind]].append(average_precision(corrected, average) - ap)
        undetected = [
            np.sum(own[result.true_labels == number + 1])
            for result, own in zip(results, analysis.undetected, strict=True)
        ]
        detected = ranking._replace(num_objects=ranking.num_objects - np.array(undetected, int))
        gain = average_precision(detected, average) - ap
        # If all objects are undetected, none is left, and AP would be undefined.
        gains["undetected"].append(1 - ap if np.isnan(gain) and not np.isnan(ap) else gain)
    return {name: np.array(values, np.float64) for name, values in gains.items()}


def _first_at_unfound(
    results: Sequence[ImageResult], ranking: Ranking, kinds: np.ndarray, objects: np.ndarray
) -> np.ndarray:
    """`[detections] bool`: the best poorly localised detection of each object not found."""
    most = max((len(result.true_labels) for result in results), default=0) + 1
    key = ranking.image * most + objects
    candidates = np.flatnonzero((kinds == LOCALISATION) & ~np.isin(key, key[ranking.right[0]]))
    first = candidates[np.unique(key[candidates], return_index=True)[1]]
    moved = np.zeros(len(kinds), bool)
    for place in first:
        result = results[int(ranking.image[place])]
        moved[place] = not (result.difficult | result.crowd)[objects[place]]
    return moved


def cumulative_shares(
    rankings: Sequence[Ranking], analysis: ErrorAnalysis, per_object: np.ndarray
) -> np.ndarray:
    """Shares of the kinds among the best detections (figure 3, top row), the mean over classes.

    Args:
      rankings: of each class.
      analysis: of these results.
      per_object: `[points]`, the numbers of best detections, as multiples of the number of objects.

    Returns:
      `[points, kinds]`; the sum over kinds is 1, or 0 without detections.
    """
    return _shares(rankings, analysis.kinds, per_object, CORRECT)


def false_positive_shares(
    rankings: Sequence[Ranking], analysis: ErrorAnalysis, per_object: np.ndarray
) -> np.ndarray:
    """The same for the best false positives (figure 3, bottom row); "correct" is 0."""
    return _shares(rankings, analysis.kinds, per_object, LOCALISATION)


def _shares(
    rankings: Sequence[Ranking], kinds: Sequence[np.ndarray], per_object: np.ndarray, lowest: int
) -> np.ndarray:
    classes = []
    for ranking, of_class in zip(rankings, kinds, strict=True):
        counted = of_class[of_class >= lowest]
        num_objects = ranking.num_objects.sum()
        if not num_objects or not len(counted):
            continue
        sums = np.cumsum(np.eye(len(KINDS))[counted], axis=0)
        last = np.clip(np.round(per_object * num_objects).astype(int), 1, len(counted))
        classes.append(sums[last - 1] / last[:, None])
    return np.mean(classes, axis=0) if classes else np.zeros((len(per_object), len(KINDS)))


def recall_at(rankings: Sequence[Ranking], per_object: np.ndarray) -> np.ndarray:
    """`[points]`: recall of the best detections, the mean over classes; see `cumulative_shares`."""
    classes = []
    for ranking in rankings:
        counted = ranking.right[0] | ranking.wrong[0]
        found, num_objects = np.cumsum(ranking.right[0][counted]), ranking.num_objects.sum()
        if num_objects:
            last = np.clip(np.round(per_object * num_objects).astype(int), 1, max(len(found), 1))
            classes.append(np.append(found, 0)[last - 1] / num_objects)
    return np.mean(classes, axis=0) if classes else np.zeros(len(per_object))


QUANTILES = (0.1, 0.3, 0.7, 0.9)
SIZE_GROUPS = ("extra small", "small", "medium", "large", "extra large")
SHAPE_GROUPS = ("extra tall", "tall", "medium", "wide", "extra wide")


def sensitivity(
    results: Sequence[ImageResult], rankings: Sequence[Ranking], values: Sequence[np.ndarray]
) -> np.ndarray:
    """Normalised AP of the objects with small to large values (figure 4), the mean over classes.

    In each class the objects fall into five groups, of 10, 20, 40, 20 and 10 %. For a group, only
    its own objects count; precision is computed as if all groups had the same number of objects.

    Args:
      results: the images.
      rankings: of each class, from `voc.rank`.
      values: for each image `[objects]`, by which objects are grouped.

    Returns:
      `[6]`: the five groups, and all objects together.
    """
    first = np.cumsum([0] + [len(result.true_labels) for result in results])
    all_values = np.concatenate([np.zeros(0), *values])
    labels = np.concatenate([np.zeros(0, int), *(result.true_labels for result in results)])
    counted = ~np.concatenate([np.zeros(0, bool), *(r.difficult | r.crowd for r in results)])
    totals = [ranking.num_objects.sum() for ranking in rankings if ranking.num_objects.any()]
    typical = float(np.mean(totals)) if totals else 1.0
    classes = []
    for label, ranking in enumerate(rankings, start=1):
        of_class = (labels == label) & counted
        if not of_class.any():
            continue
        edges = np.quantile(all_values[of_class], QUANTILES)
        # Objects with equal values fall into the same group, so that some groups may be empty.
        group = np.where(of_class, np.searchsorted(edges, all_values, side="left"), -1)
        place = np.where(ranking.right[0], first[ranking.image] + ranking.object[0], -1)
        found = np.append(group, -1)[place]  # the last entry, -1, stands for no object
        row = []
        for number in range(len(QUANTILES) + 2):
            everything = number > len(QUANTILES)
            right = ranking.right[0] & (everything | (found == number))
            total = of_class.sum() if everything else np.sum(group == number)
            if not total:
                row.append(np.nan)
                continue
            recall = np.cumsum(right) / total
            normalised = recall * typical
            false = np.cumsum(ranking.wrong[0])
            precision = normalised / np.maximum(normalised + false, 1e-12)
            row.append(float(area_under_curve(precision, recall)))
        classes.append(row)
    if not classes:
        return np.full(len(QUANTILES) + 2, np.nan)
    table = np.array(classes)
    some = ~np.isnan(table).all(axis=0)
    means = np.full(table.shape[1], np.nan)
    means[some] = np.nanmean(table[:, some], axis=0)
    return means
