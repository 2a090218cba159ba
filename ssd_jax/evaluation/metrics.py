"""The table of metrics. A new metric is a file with a `Metric`, and a line here."""

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
