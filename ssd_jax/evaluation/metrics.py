"""The table of metrics. A new metric is a file with a `Metric`, and a line here."""

import numbers
from collections.abc import Sequence

from ssd_jax.errors import UserError
from ssd_jax.evaluation import coco, voc, voc07
from ssd_jax.evaluation.metric import Metric

METRICS: dict[str, Metric] = {
    metric.name: metric
    for metric in (
        voc07.METRIC,
        voc.METRIC,
        coco.METRIC,
    )
}


def check_metric(name: str) -> Metric:
    """The metric that `config.metric` names.

    Raises:
      UserError: there is no metric of this name.
    """
    if name not in METRICS:
        raise UserError(f"config.metric is {name!r}, but must be one of {', '.join(METRICS)}")
    return METRICS[name]


def check_options(metrics: Sequence[str], iou_threshold: float) -> None:
    """Checks the options of an evaluation in Python.

    Raises:
      UserError: `metrics` is no list of names of metrics, or the threshold no number in [0, 1].
    """
    if isinstance(metrics, str) or not metrics or not set(metrics) <= set(METRICS):
        raise UserError(f"metrics is {metrics!r}, but must be a list of {', '.join(METRICS)}")
    if not isinstance(iou_threshold, numbers.Real) or not 0 <= iou_threshold <= 1:
        raise UserError(
            f"metric_iou_threshold is {iou_threshold!r}, but must be a number between 0 and 1"
        )
