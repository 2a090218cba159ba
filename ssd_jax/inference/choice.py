"""Selects the detections of a prediction, and records the best one below the threshold."""

import numbers
import threading
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from ssd_jax.data.classes import check_class_list
from ssd_jax.errors import UserError
from ssd_jax.inference.detections import Detections


def check_score_threshold(value: float, name: str) -> None:
    """Raises a `UserError` with the name of an argument that is not a number in [0, 1]."""
    if not isinstance(value, numbers.Real) or not 0 <= value <= 1:
        raise UserError(f"{name} is {value!r}, but must be a number between 0 and 1")


class LeftOut(NamedTuple):
    """A detection whose score is below the threshold.

    Attributes:
      score: its score.
      class_name: its class.
      file_name: the name of its image or video in results.
    """

    score: float
    class_name: str
    file_name: str


class Choice:
    """Selects the detections that are kept. Several threads may use it at a time.

    Attributes:
      score_threshold: detections with a lower score are left out.
      best_left_out: the best left out detection of the selected classes so far; of equal scores,
        the first by file name; None without one.
    """

    def __init__(
        self, class_names: Sequence[str], score_threshold: float, classes: Sequence[str]
    ) -> None:
        """Checks the options.

        Args:
          class_names: the classes of the detector.
          score_threshold: the lowest score to keep, in [0, 1].
          classes: the classes to keep; all if empty.

        Raises:
          UserError: the threshold or a class is invalid.
        """
        check_score_threshold(score_threshold, "--score_threshold")
        check_class_list(classes, "--classes")
        for name in classes:
            if name not in class_names:
                raise UserError(
                    f"--classes names {name!r}, but the detector has {', '.join(class_names)}"
                )
        self.score_threshold = score_threshold
        self.best_left_out: LeftOut | None = None
        self._labels = [class_names.index(name) + 1 for name in classes or class_names]
        self._lock = threading.Lock()

    def __call__(self, file_name: str, detections: Detections) -> Detections:
        """Selects the detections of an image or of a video frame."""
        wanted = detections.select(np.isin(detections.labels, self._labels))
        good = wanted.scores >= self.score_threshold
        rest = wanted.select(~good)
        if len(rest):
            best = int(rest.scores.argmax())
            self._leave_out(LeftOut(float(rest.scores[best]), rest.names[best], file_name))
        return wanted.select(good)

    def _leave_out(self, left_out: LeftOut) -> None:
        def rank(each: LeftOut) -> tuple[float, str]:
            return -each.score, each.file_name

        with self._lock:
            if self.best_left_out is None or rank(left_out) < rank(self.best_left_out):
                self.best_left_out = left_out
