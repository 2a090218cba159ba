"""The numbers of an evaluation, and their table."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from ssd_jax.evaluation.metric import IOU_THRESHOLD, Metric, Rankings
from ssd_jax.evaluation.metrics import METRICS
from ssd_jax.evaluation.ranking import average_precision, mean_over_classes
from ssd_jax.evaluation.results import ImageResult


def summarise(
    results: Sequence[ImageResult],
    class_names: Sequence[str],
    metrics: Sequence[str] = ("voc07",),
    metric_iou_threshold: float = IOU_THRESHOLD,
) -> dict[str, Any]:
    """Average precision by one or several metrics.

    Args:
      results: the images.
      class_names: class i + 1 is called `class_names[i]`.
      metrics: of `METRICS`, the most important first.
      metric_iou_threshold: IoU that a match must exceed, for metrics without own thresholds.

    Returns:
      The content of `results.json`: `num_images`, `num_objects` by class (objects to find), and for
      the first metric its name as `metric`, `mAP`, `AP_per_class`, `iou_threshold` if it uses the
      given one, and its other numbers. The numbers of each other metric are in a dictionary under
      its name. A class without objects has AP None and is left out of the mean, which is None if no
      class has objects.
    """
    # Metrics with the same `rank` function share its result.
    rankings = {}
    for name in metrics:
        rank = METRICS[name].rank
        if rank not in rankings:
            rankings[rank] = rank(results, len(class_names), metric_iou_threshold)
    first, *others = (
        _numbers(metric, rankings[metric.rank], class_names, metric_iou_threshold)
        for metric in (METRICS[name] for name in metrics)
    )
    return {
        **first,
        **{numbers["metric"]: numbers for numbers in others},
        "num_images": len(results),
        "num_objects": dict(zip(class_names, _num_objects(results, len(class_names)), strict=True)),
    }


def _numbers(
    metric: Metric, rankings: Rankings, class_names: Sequence[str], metric_iou_threshold: float
) -> dict[str, Any]:
    """The numbers of one metric."""
    if metric.measure:
        others, values = metric.measure(rankings)
    else:
        others = {}
        values = np.array(
            [average_precision(ranking, metric.average) for ranking in rankings["all"]]
        )
    if not metric.own_iou_thresholds:
        others = {"iou_threshold": metric_iou_threshold, **others}
    per_class = [None if np.isnan(value) else float(value) for value in values]
    return {
        "metric": metric.name,
        "mAP": mean_over_classes(values),
        "AP_per_class": dict(zip(class_names, per_class, strict=True)),
        **others,
    }


def _num_objects(results: Sequence[ImageResult], num_classes: int) -> list[int]:
    """The number of objects of each class to be found: not difficult, and no crowd."""
    counts = np.zeros(num_classes + 1, int)
    for result in results:
        wanted = result.true_labels[~(result.difficult | result.crowd)]
        counts += np.bincount(wanted, minlength=num_classes + 1)
    return counts[1:].tolist()


def by_metric(summary: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """The numbers of each metric of a summary, by its name."""
    return {summary["metric"]: summary} | {
        metric: summary[metric] for metric in METRICS if metric in summary
    }


def format_table(summary: dict[str, Any]) -> str:
    """The summary as a table to print."""
    metrics = by_metric(summary)
    titles = ["objects", *(METRICS[metric].title for metric in metrics)]
    width = max(len(name) for name in ("mAP", *summary["AP_per_class"]))

    def line(name: str, *cells: str) -> str:
        row = [f"{cell:>{len(title)}}" for cell, title in zip(cells, titles, strict=True)]
        return "  ".join([f"{name:<{width}}", *row])

    ious = {numbers["iou_threshold"] for numbers in metrics.values() if "iou_threshold" in numbers}
    at = f", IoU above {ious.pop():g} for Pascal VOC's AP" if ious else ""
    lines = [f"{summary['num_images']} images{at}", line("", *titles)]
    for name, count in summary["num_objects"].items():
        values = [_four_digits(numbers["AP_per_class"][name]) for numbers in metrics.values()]
        lines.append(line(name, str(count) if count else "none", *values))
    means = [_four_digits(numbers["mAP"]) for numbers in metrics.values()]
    lines.append(line("mAP", str(sum(summary["num_objects"].values())), *means))
    for name, numbers in metrics.items():
        lines += _format_numbers(METRICS[name], numbers)
    return "\n".join(lines)


def _format_numbers(metric: Metric, numbers: dict[str, Any]) -> list[str]:
    """The numbers besides AP, one per line; empty for a metric that has none."""
    if not metric.numbers:
        return []
    width = max(map(len, metric.numbers.values()))
    return ["", metric.numbers_title] + [
        f"{title:<{width}}  {_four_digits(numbers[name]):>6}"
        for name, title in metric.numbers.items()
    ]


def _four_digits(value: float | None) -> str:
    return "–" if value is None else f"{value:.4f}"
