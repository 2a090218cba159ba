"""Two sentences about the class with the lowest AP, and its main errors; and advice."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from ssd_jax.data.class_lists import similar_groups
from ssd_jax.errors import counted
from ssd_jax.evaluation import error_analysis, voc
from ssd_jax.evaluation.error_analysis import OTHER, SIMILAR, ErrorAnalysis
from ssd_jax.evaluation.metric import IOU_THRESHOLD
from ssd_jax.evaluation.ranking import Average, Ranking, average_precision
from ssd_jax.evaluation.results import ImageResult

SMALL = 24.0  # pixels of the input: the side of objects that a network of 300 pixels misses
LEAST_GAIN = 0.02  # of AP; smaller gains are not mentioned

REASONS = {
    "undetected": "undetected objects",
    "localisation": "inaccurate boxes",
    "similar": "confusion with similar classes",
    "other": "confusion with other classes",
    "background": "detections on the background",
}
ADVICE = {
    "undetected": "more images of it, or more steps",
    "localisation": "more steps, or a larger input",
    "similar": "more images of these classes; the report's examples show whether labels agree",
    "other": "more images of these classes; the report's examples show whether labels agree",
    "background": "a look at the report's examples: labels may be missing there",
}


class Weakest(NamedTuple):
    """The class with the lowest AP: a line about it, and advice."""

    description: str
    advice: str


def describe_weakest(
    results: Sequence[ImageResult],
    class_names: Sequence[str],
    image_size: int | None,
    average: Average = voc.METRIC.average,
    metric_iou_threshold: float = IOU_THRESHOLD,
) -> Weakest | None:
    """The class with the lowest AP, its most costly kind of error, and advice; by VOC's rules.

    Args:
      results: the images.
      class_names: class i + 1 is called `class_names[i]`.
      image_size: side of the network's input, in pixels; None if unknown.
      average: of the metric "voc07" or "voc"; see `Metric`.
      metric_iou_threshold: IoU that a match must exceed.

    Returns:
      None without objects, or if all gains are below `LEAST_GAIN`.
    """
    rankings = voc.rank(results, len(class_names), metric_iou_threshold)
    ap = np.array([average_precision(ranking, average) for ranking in rankings])
    if np.isnan(ap).all():
        return None
    worst = int(np.nanargmin(ap))
    analysis = error_analysis.analyse(results, rankings, class_names, similar_groups(class_names))
    costs = error_analysis.costs(results, rankings, analysis, average)
    gains = {kind: float(values[worst]) for kind, values in costs.items()}
    kind = max(gains, key=lambda kind: gains[kind])
    if gains[kind] < LEAST_GAIN:
        return None
    name, count = class_names[worst], counted(int(rankings[worst].num_objects.sum()), "object")
    reason, advice = REASONS[kind], ADVICE[kind]
    if kind in ("similar", "other"):
        code = SIMILAR if kind == "similar" else OTHER
        mistaken = _most_mistaken(results, rankings[worst], analysis, worst, code)
        reason += f", mostly {class_names[mistaken - 1]},"
    side = _median_side(results, worst + 1, image_size or 0)
    if kind == "undetected" and image_size and side < SMALL:
        advice = (
            f"a larger input: half of its objects are smaller than {side:.0f} pixels a side in the "
            f"network's input of {image_size} × {image_size}"
        )
    first = "weakest class" if len(class_names) > 1 else "class"
    description = (
        f"{first}: {name}, AP {ap[worst]:.2f} ({count}). Without {reason} the AP would be "
        f"{ap[worst] + gains[kind]:.2f}"
    )
    return Weakest(description, advice)


def _most_mistaken(
    results: Sequence[ImageResult],
    ranking: Ranking,
    analysis: ErrorAnalysis,
    number: int,
    kind: int,
) -> int:
    """The most frequent label under the best detections of a class with this kind of error."""
    wrong = np.flatnonzero(analysis.kinds[number] == kind)[: max(1, ranking.num_objects.sum())]
    labels = []
    for place in wrong:
        result = results[int(ranking.image[place])]
        box = result.boxes[int(ranking.index[place])]
        labels.append(result.true_labels[voc.inclusive_iou(box[None], result.true_boxes).argmax()])
    return int(np.bincount(labels).argmax())


def _median_side(results: Sequence[ImageResult], label: int, image_size: int) -> float:
    """The side of a square with the area of a class's objects, in pixels of the input."""
    areas = []
    for result in results:
        height, width = result.size
        sides = result.true_boxes[result.true_labels == label] / [width, height, width, height]
        areas += list(np.prod(sides[:, 2:] - sides[:, :2], axis=1))
    return float(np.sqrt(np.median(areas)) * image_size)
