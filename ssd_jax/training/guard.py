"""Checks every step for values that are not finite, loss spikes, and missing objects."""

import collections
import logging
import math
import statistics
from collections.abc import Callable

from ssd_jax.errors import UserError
from ssd_jax.training.optimizer import Schedule

logger = logging.getLogger(__name__)

# A loss is a spike above SPIKE_FACTOR times the median of the last SPIKE_WINDOW losses, or of fewer
# at the start of a run, but of SPIKE_MIN_STEPS at least.
SPIKE_FACTOR = 5
SPIKE_WINDOW = 100
SPIKE_MIN_STEPS = 20

# The first steps without a positive that cause a warning; the next after 2, 4, 8, … times as many.
FIRST_STEPS = 50


class Guard:
    """Counts the steps that are not finite, and warns of spikes.

    Attributes:
      skipped: the number of steps that were not finite so far.
    """

    def __init__(
        self,
        on_nonfinite: str,
        max_skipped: int,
        learning_rate: Schedule,
        save_batch: Callable[[int, dict[str, float]], str],
        skipped: int = 0,
    ):
        """Starts the checks.

        Args:
          on_nonfinite: "stop", or "skip": continue, because the train step did not apply the
            update.
          max_skipped: maximum number of skipped steps of a run.
          learning_rate: by the number of steps done before.
          save_batch: saves the batch and the numbers of a step for inspection; returns a
            description of them.
          skipped: the number of steps of the run that were skipped before.
        """
        self.skipped = skipped
        self._on_nonfinite = on_nonfinite
        self._max_skipped = max_skipped
        self._learning_rate = learning_rate
        self._save_batch = save_batch
        self._losses = collections.deque(maxlen=SPIKE_WINDOW)
        self._steps_without_positives: int | None = 0  # None after the first positive

    def observe(self, step: int, metrics: dict[str, float]) -> bool:
        """Checks one step; must be called once for each step, in order.

        Warns about a step that is not finite, a spike, and no positive in any step so far.

        Args:
          step: its number, from 1.
          metrics: `loss`, `gradient_norm`, `update_norm` and `positives`, and others.

        Returns:
          Whether the step is finite.

        Raises:
          UserError: it is not finite, and the run must stop.
        """
        watched = {name: metrics[name] for name in ("loss", "gradient_norm", "update_norm")}
        if all(map(math.isfinite, watched.values())):
            self._warn_of_no_positives(metrics["positives"])
            self._warn_of_spike(step, metrics["loss"], metrics["gradient_norm"])
            self._losses.append(metrics["loss"])
            return True
        self.skipped += 1
        self._report_skipped(step, watched)
        return False

    def _report_skipped(self, step: int, watched: dict[str, float]) -> None:
        """Warns about a step that is not finite, or ends the run."""
        rate = float(self._learning_rate(step - 1))
        numbers = {"step": step, **watched, "learning_rate": rate}
        message = (
            f"step {step}: the loss is {watched['loss']:.6g}, the norm of the gradient "
            f"{watched['gradient_norm']:.6g} and that of the update {watched['update_norm']:.6g}, "
            f"at the learning rate {rate:.6g}; {self._save_batch(step, numbers)}"
        )
        fix = "lower config.learning_rate, raise config.warmup_steps or set config.clip_norm"
        if self._on_nonfinite == "stop":
            raise UserError(f"{message}; {fix}, or set config.on_nonfinite to skip")
        if self.skipped > self._max_skipped:
            raise UserError(
                f"{message}; {self.skipped} updates are not finite, but config.max_skipped is "
                f"{self._max_skipped}: {fix}"
            )
        logger.warning(
            "%s; skipped (%d of at most %d skipped steps)", message, self.skipped, self._max_skipped
        )

    def _warn_of_no_positives(self, positives: float) -> None:
        if self._steps_without_positives is None:
            return
        if positives:
            self._steps_without_positives = None
            return
        self._steps_without_positives += 1
        times, rest = divmod(self._steps_without_positives, FIRST_STEPS)
        if times and not rest and not times & (times - 1):  # 1, 2, 4, … times FIRST_STEPS
            logger.warning(
                "no object in the training images of %d steps, so no class can be learned: look at "
                "them with ssd-jax show-data (images left out because of damage are blank; "
                "augmentation may crop objects away)",
                self._steps_without_positives,
            )

    def _warn_of_spike(self, step: int, loss: float, norm: float) -> None:
        if len(self._losses) >= SPIKE_MIN_STEPS:
            usual = statistics.median(self._losses)
            if loss > SPIKE_FACTOR * usual:
                logger.warning(
                    "step %d: the loss is %.6g, %.1f times the median of the %d steps before (norm "
                    "of the gradient %.6g)",
                    step,
                    loss,
                    loss / usual,
                    len(self._losses),
                    norm,
                )
