"""Watches loss and gradient of every step: values that are not finite, and spikes."""

import collections
import logging
import math
import statistics
from collections.abc import Callable

import numpy as np
import optax

from ssd_jax.errors import UserError

logger = logging.getLogger(__name__)

# A loss is a spike above SPIKE_FACTOR times the median of the last SPIKE_WINDOW losses, or of fewer
# at the start of a run, but of SPIKE_MIN_STEPS at least.
SPIKE_FACTOR = 5
SPIKE_WINDOW = 100
SPIKE_MIN_STEPS = 20


class Guard:
    """Counts the steps that are not finite, and warns of spikes.

    Attributes:
      skipped: how many steps were not finite so far.
    """

    def __init__(
        self,
        on_nonfinite: str,
        max_skipped: int,
        learning_rate: optax.Schedule,
        save_batch: Callable[[int, dict[str, float]], str],
        skipped: int = 0,
    ):
        """Begins to watch.

        Args:
          on_nonfinite: "stop", or "skip": go on, for the train step has not applied the update.
          max_skipped: how many steps of a run may be skipped.
          learning_rate: by the number of steps done before.
          save_batch: saves the batch of a step with its numbers, to be inspected; returns where
            it is and what is in it, in words.
          skipped: how many steps of the run were skipped before.
        """
        self.skipped = skipped
        self._on_nonfinite = on_nonfinite
        self._max_skipped = max_skipped
        self._learning_rate = learning_rate
        self._save_batch = save_batch
        self._losses = collections.deque(maxlen=SPIKE_WINDOW)

    def observe(self, step: int, metrics: dict[str, float]) -> bool:
        """Takes note of one step; to be called once for each step, in order.

        Warns of a step that is not finite, and of a spike.

        Args:
          step: its number, from 1.
          metrics: `loss` and `gradient_norm` among them.

        Returns:
          Whether the step is finite.

        Raises:
          UserError: it is not finite, and the run must stop.
        """
        loss, norm = metrics["loss"], metrics["gradient_norm"]
        if math.isfinite(loss) and math.isfinite(norm):
            self._warn_of_spike(step, loss, norm)
            self._losses.append(loss)
            return True
        self.skipped += 1
        self._report_skipped(step, loss, norm)
        return False

    def _report_skipped(self, step: int, loss: float, norm: float) -> None:
        """Warns of a step that is not finite, or ends the run."""
        rate = float(np.asarray(self._learning_rate(step - 1)))
        numbers = {"step": step, "loss": loss, "gradient_norm": norm, "learning_rate": rate}
        message = (
            f"step {step}: the loss is {loss:.6g} and the norm of the gradient {norm:.6g}, at the "
            f"learning rate {rate:.6g}; {self._save_batch(step, numbers)}"
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
            "%s; skipped, as %d of %d that may be", message, self.skipped, self._max_skipped
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
