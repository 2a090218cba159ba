"""The type of a metric: how it matches detections to objects, and how it averages precision."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from ssd_jax.evaluation.ranking import Average, Ranking
from ssd_jax.evaluation.results import ImageResult

# By range of object area, and "all": the evaluated detections of each class.
Rankings = dict[str, list[Ranking]]
Numbers = dict[str, float | None]

IOU_THRESHOLD = 0.5  # default; a match must exceed it by VOC's rules


@dataclasses.dataclass(frozen=True)
class Metric:
    """One entry of the table of metrics.

    Attributes:
      name: for `config.metric` and `--metric`.
      title: of its AP in tables.
      rank: marks detections as right or wrong, from the results, the number of classes, and the IoU
        that a match must exceed.
      average: AP from precision and recall `[..., detections]`, as `[...]`.
      own_iou_thresholds: whether `rank` has its own IoU thresholds and ignores the given one.
      numbers_title: the title of the numbers besides AP.
      numbers: titles of the numbers besides AP, by their names in `results.json`.
      measure: gives these numbers, and AP by class `[classes]` with NaN for a class without
        objects; None for a metric with AP only.
    """

    name: str
    title: str
    rank: Callable[[Sequence[ImageResult], int, float], Rankings]
    average: Average
    own_iou_thresholds: bool = False
    numbers_title: str = ""
    numbers: Mapping[str, str] = dataclasses.field(default_factory=dict)
    measure: Callable[[Rankings], tuple[Numbers, np.ndarray]] | None = None
