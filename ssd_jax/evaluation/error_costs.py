"""The cost of each kind of error in mAP: numbers and lines to print."""

from collections.abc import Sequence
from typing import Any

from ssd_jax.data.class_lists import similar_groups
from ssd_jax.evaluation import error_analysis, voc
from ssd_jax.evaluation.error_analysis import MEANINGS, name_with_key
from ssd_jax.evaluation.metric import IOU_THRESHOLD, Metric
from ssd_jax.evaluation.metrics import METRICS
from ssd_jax.evaluation.ranking import mean_over_classes
from ssd_jax.evaluation.results import ImageResult


def with_error_costs(
    summary: dict[str, Any], results: Sequence[ImageResult], class_names: Sequence[str]
) -> dict[str, Any]:
    """Adds the cost of each kind of error to the numbers of an evaluation, as `error_costs`.

    Args:
      summary: from `summarise`.
      results: the images.
      class_names: class i + 1 is called `class_names[i]`.

    Returns:
      The summary with `error_costs`: by kind, how much higher the mAP would be without such errors,
      the mean of `error_analysis.costs`; by the rule `metric`, VOC's if that has its own IoU
      thresholds. Empty if there are no objects.
    """
    groups = similar_groups(class_names)
    rankings = voc.rank(results, len(class_names), summary.get("iou_threshold", IOU_THRESHOLD))
    analysis = error_analysis.analyse(results, rankings, class_names, groups)
    costs = error_analysis.costs(results, rankings, analysis, _rule(summary).average)
    possible = (*error_analysis.possible_kinds(class_names, groups), "undetected")
    means = {kind: mean_over_classes(costs[kind]) for kind in MEANINGS if kind in possible}
    return summary | {
        "error_costs": {kind: value for kind, value in means.items() if value is not None}
    }


def format_error_costs(summary: dict[str, Any]) -> str:
    """The costs as lines to print, the highest first; "" without any."""
    costs = summary.get("error_costs", {})
    if not costs:
        return ""
    width = max(len(name_with_key(kind)) for kind in costs)
    overlap = f"Boxes overlap from an IoU of {error_analysis.WEAK_IOU:g} on."
    return "\n".join(
        [
            f"mAP ({_rule(summary).title}) lost to each kind of error",
            *(
                f"{name_with_key(kind):<{width}}  {costs[kind]:>6.4f}  {MEANINGS[kind]}"
                for kind in sorted(costs, key=lambda kind: -costs[kind])
            ),
            f"{overlap} Each row fixes one kind alone,",
            "so the rows do not add up to the missing mAP: the rest needs several fixes at once.",
        ]
    )


def _rule(summary: dict[str, Any]) -> Metric:
    """The rule of the kinds of errors, which are defined at one IoU threshold."""
    metric = METRICS[summary["metric"]]
    return voc.METRIC if metric.own_iou_thresholds else metric
