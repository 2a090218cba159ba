"""Average precision of VOC2007: the mean of the best precision at eleven recalls."""

import numpy as np

from ssd_jax.evaluation import voc
from ssd_jax.evaluation.metric import Metric
from ssd_jax.evaluation.ranking import interpolated

ELEVEN_LEVELS = np.arange(0.0, 1.1, 0.1)


def eleven_point(precision: np.ndarray, recall: np.ndarray) -> np.ndarray:
    """The mean of the best precision at the recalls 0, 0.1, …, 1 or above: `[...]`."""
    return interpolated(precision, recall, ELEVEN_LEVELS)


METRIC = Metric(name="voc07", title="AP, 11-point", rank=voc.rank_all, average=eleven_point)
