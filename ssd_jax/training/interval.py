"""Measurements from one line of metrics to the next."""

import math
import time

import jax
import numpy as np

from ssd_jax.distributed import devices
from ssd_jax.training.checkpoints import Progress
from ssd_jax.training.guard import Guard

# Maximum number of steps in flight. Two keep the device busy. With more, a signal would wait for
# all of them, and the progress bar would count steps that are not done.
IN_FLIGHT = 2


class Interval:
    """The metrics of the steps since the last line.

    `add` leaves the metrics of the last steps on the device. `catch_up` waits for all of them and
    checks them with the guard. `means` and `progress` return the numbers that were read; they
    change nothing.

    Attributes:
      all_dropped: boxes left out of training images since the start of the run.
    """

    def __init__(self, guard: Guard, step: int, progress: Progress):
        """Begins or continues an interval.

        Args:
          guard: checks every step, in order.
          step: the steps done before.
          progress: the result of `progress` when the run was saved.
        """
        self._guard = guard
        self._step = step  # the last one read
        self._on_device: list[dict[str, jax.Array]] = []
        self._values: list[dict[str, float]] = list(progress.values)  # finite ones
        self._dropped = progress.dropped
        self.all_dropped = progress.all_dropped

    def add(self, metrics: dict[str, jax.Array], dropped: int) -> None:
        """Adds a step: its metrics on the device, and the number of boxes left out of its batch.

        Waits until at most `IN_FLIGHT` steps are not done.
        """
        self._on_device.append(metrics)
        if len(self._on_device) > IN_FLIGHT:
            devices.wait_for(self._on_device[-1 - IN_FLIGHT])
        self._dropped += dropped
        self.all_dropped += dropped

    def catch_up(self) -> None:
        """Reads the metrics of all added steps, and checks them with the guard.

        Raises:
          UserError: a step is not finite, and the run must stop.
        """
        for metrics in devices.to_host(self._on_device):
            self._step += 1
            values = {key: float(value) for key, value in metrics.items()}
            if self._guard.observe(self._step, values):
                self._values.append(values)
        self._on_device = []

    def means(self) -> dict[str, float]:
        """Means over the finite steps that were read, and counts."""
        names = self._values[0] if self._values else ()
        means = {key: float(np.mean([values[key] for values in self._values])) for key in names}
        counts = {"objects_dropped": self._dropped, "updates_skipped": self._guard.skipped}
        return means | counts

    def progress(self) -> Progress:
        """The state of this interval, for a checkpoint."""
        return Progress(
            # A copy, because the checkpoint is written while further steps are added.
            values=list(self._values),
            dropped=self._dropped,
            all_dropped=self.all_dropped,
            skipped=self._guard.skipped,
        )

    def restart(self) -> None:
        """Begins a new interval, after a line of metrics was written."""
        self._values, self._dropped = [], 0


class Speed:
    """The speed of training, in images per second."""

    def __init__(self, batch_size: int):
        self._batch_size = batch_size
        self.restart()

    def restart(self) -> None:
        """Measures from now on."""
        self._start, self._steps = time.perf_counter(), 0

    def add_step(self) -> None:
        """Counts a step."""
        self._steps += 1

    def images_per_second(self) -> float:
        """The speed since the last `restart`; NaN without a step."""
        if not self._steps:
            return math.nan
        return self._steps * self._batch_size / (time.perf_counter() - self._start)
