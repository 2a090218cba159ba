"""Results as numbers, and the numbers as text."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from ssd_jax.errors import UserError
from ssd_jax.evaluation import coco, voc
from ssd_jax.evaluation.ranking import average_precision, mean_over_classes
from ssd_jax.evaluation.results import ImageResult

# VOC2007's AP at eleven recalls, that of later years by area, COCO's.
METRICS = ("voc07", "voc", "coco")
TITLES = {"voc07": "AP, 11-point", "voc": "AP, area", "coco": "AP of COCO"}

COCO_NUMBERS = {
    "AP": "AP at IoU 0.50:0.95",
    "AP50": "AP at IoU 0.50",
    "AP75": "AP at IoU 0.75",
    "AP_small": "AP of small objects (below 32² pixels)",
    "AP_medium": "AP of medium objects",
    "AP_large": "AP of large objects (above 96² pixels)",
    "AR_1": "AR of 1 detection a class and image",
    "AR_10": "AR of 10 detections",
    "AR_100": "AR of 100 detections",
    "AR_small": "AR of small objects",
    "AR_medium": "AR of medium objects",
    "AR_large": "AR of large objects",
}


def check_metric(name: str) -> None:
    """Raises a `UserError` if `config.metric` is none of `METRICS`."""
    if name not in METRICS:
        raise UserError(f"config.metric is {name!r}, but must be one of {', '.join(METRICS)}")


def summarise(
    results: Sequence[ImageResult],
    class_names: Sequence[str],
    metrics: Sequence[str] = ("voc07",),
    iou_threshold: float = 0.5,
) -> dict[str, Any]:
    """Average precision by one or several metrics.

    Args:
      results: the images.
      class_names: class i + 1 is called `class_names[i]`.
      metrics: of `METRICS`.
      iou_threshold: which a match must exceed for "voc07" and "voc"; "coco" has its own ten.

    Returns:
      What `results.json` holds: `num_images`, `num_objects` by class (those that are to be found),
      and of the first metric its name as `metric`, `mAP`, `AP_per_class`, and `iou_threshold` or
      COCO's other numbers. The numbers of each other metric are in a dictionary under its name. A
      class without objects has the AP None and is left out of the mean.
    """
    rankings = voc.rank(results, len(class_names), iou_threshold)

    def numbers(metric: str) -> dict[str, Any]:
        if metric == "coco":
            others, values = coco.summarise(results, len(class_names))
        else:
            values = np.array([average_precision(ranking, metric) for ranking in rankings])
            others = {"iou_threshold": iou_threshold}
        per_class = [None if np.isnan(value) else float(value) for value in values]
        return {
            "metric": metric,
            "mAP": mean_over_classes(values),
            "AP_per_class": dict(zip(class_names, per_class, strict=True)),
            **others,
        }

    num_objects = [int(ranking.num_objects.sum()) for ranking in rankings]
    return {
        **numbers(metrics[0]),
        **{metric: numbers(metric) for metric in metrics[1:]},
        "num_images": len(results),
        "num_objects": dict(zip(class_names, num_objects, strict=True)),
    }


def by_metric(summary: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """The numbers of each metric of a summary, by its name."""
    return {summary["metric"]: summary} | {
        metric: summary[metric] for metric in METRICS if metric in summary
    }


def format_table(summary: dict[str, Any]) -> str:
    """The summary as a table to print."""
    metrics = by_metric(summary)
    titles = ["objects", *(TITLES[metric] for metric in metrics)]
    width = max(len(name) for name in ("mAP", *summary["AP_per_class"]))

    def line(name: str, *cells: str) -> str:
        row = [f"{cell:>{len(title)}}" for cell, title in zip(cells, titles, strict=True)]
        return "  ".join([f"{name:<{width}}", *row])

    def number(value: float | None) -> str:
        return "–" if value is None else f"{value:.4f}"

    ious = {numbers["iou_threshold"] for numbers in metrics.values() if "iou_threshold" in numbers}
    at = f", IoU above {ious.pop():g} for Pascal VOC's AP" if ious else ""
    lines = [f"{summary['num_images']} images{at}", line("", *titles)]
    for name, count in summary["num_objects"].items():
        values = [number(numbers["AP_per_class"][name]) for numbers in metrics.values()]
        lines.append(line(name, str(count) if count else "none", *values))
    means = [number(numbers["mAP"]) for numbers in metrics.values()]
    lines.append(line("mAP", str(sum(summary["num_objects"].values())), *means))
    if "coco" in metrics:
        width = max(map(len, COCO_NUMBERS.values()))
        lines += ["", "COCO's numbers"]
        lines += [
            f"{title:<{width}}  {number(metrics['coco'][name]):>6}"
            for name, title in COCO_NUMBERS.items()
        ]
    return "\n".join(lines)
