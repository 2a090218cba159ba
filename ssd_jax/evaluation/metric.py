"""The type of a metric: how it judges detections, and how it averages precision."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from ssd_jax.evaluation.ranking import Average, Ranking
from ssd_jax.evaluation.results import ImageResult

# By range of object area, and "all": the judged detections of each class.
Rankings = dict[str, list[Ranking]]
Numbers = dict[str, float | None]

IOU_THRESHOLD = 0.5  # which a match must exceed by VOC's rules, unless another is asked for


@dataclasses.dataclass(frozen=True)
class Metric:
    """One entry of the table of metrics.

    Attributes:
      name: as `config.metric` and `--metric` name it.
      title: of its AP in tables.
      rank: judges detections, from the results, the number of classes, and the IoU that a match
        must exceed.
      average: AP from precision and recall `[..., detections]`, as `[...]`.
      own_iou_thresholds: whether `rank` has thresholds of IoU of its own, and takes no other.
      numbers_title: what the numbers beside AP are called together.
      numbers: titles of the numbers beside AP, by their names in `results.json`.
      measure: gives these numbers, and AP by class `[classes]` with NaN for a class without
        objects; None where there is AP alone.
    """

    name: str
    title: str
    rank: Callable[[Sequence[ImageResult], int, float], Rankings]
    average: Average
    own_iou_thresholds: bool = False
    numbers_title: str = ""
    numbers: Mapping[str, str] = dataclasses.field(default_factory=dict)
    measure: Callable[[Rankings], tuple[Numbers, np.ndarray]] | None = None
