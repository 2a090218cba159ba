"""The work between the steps of a run: logging, saving, evaluating, and stopping early."""

import contextlib
import dataclasses
import logging
import math
import time
from collections.abc import Callable, Iterator, Mapping

from ssd_jax.config.schema import Config
from ssd_jax.distributed import devices
from ssd_jax.errors import Interrupted, UserError, counted
from ssd_jax.training.checkpoints import Progress
from ssd_jax.training.guard import Guard
from ssd_jax.training.hooks import Hooks
from ssd_jax.training.interruption import Interruption
from ssd_jax.training.optimizer import Schedule
from ssd_jax.training.run_checkpoints import RunCheckpoints
from ssd_jax.training.state import TrainState

logger = logging.getLogger(__name__)

Evaluate = Callable[[TrainState], dict[str, float | None]]


def patience_ends(evaluations: Mapping[int, float | None], patience: int) -> bool:
    """Whether the mAP has not risen in the last `patience` evaluations.

    Args:
      evaluations: mAP by step; those with None do not count.
      patience: number of evaluations; 0 = no limit.
    """
    rated = [mean_ap for _, mean_ap in sorted(evaluations.items()) if mean_ap is not None]
    return bool(rated) and 0 < patience < len(rated) - rated.index(max(rated))


@dataclasses.dataclass
class Run:
    """Settings, files and hooks of a run, for the training loop.

    Attributes:
      config: of the run.
      schedule: learning rate by the number of steps done before.
      checkpoints: where states are saved.
      guard: watches the metrics of every step.
      interruption: says when the run must end early.
      hooks: receive the metrics.
      evaluate: gives metrics of a state, `mAP` among them; None to never evaluate.
      evaluations: the mAP of earlier evaluations by step; None if the data has no objects.
      progress: the state of the loop in the checkpoint from which the run continues.
      num_images: the number of training images; 0 = unknown.
      began: when preparations began, by `time.perf_counter`.
      prepared: when data and weights were ready, by the same clock.
      stopped_by_hook: the reason of a hook to end the run; "" = none.
    """

    config: Config
    schedule: Schedule
    checkpoints: RunCheckpoints
    guard: Guard
    interruption: Interruption
    hooks: Hooks = dataclasses.field(default_factory=Hooks)
    evaluate: Evaluate | None = None
    evaluations: dict[int, float | None] = dataclasses.field(default_factory=dict)
    progress: Progress = dataclasses.field(default_factory=Progress)
    num_images: int = 0
    began: float = dataclasses.field(default_factory=time.perf_counter)
    prepared: float = dataclasses.field(default_factory=time.perf_counter)
    stopped_by_hook: str = ""
    _remaining_time_is_logged: bool = False

    def epochs(self, steps: int) -> float:
        """The number of passes over the training images in these steps; NaN if unknown."""
        return self.config.epochs_in(steps, self.num_images) if self.num_images else math.nan

    def logging_is_due(self, step: int) -> bool:
        """Whether a line of metrics follows this step."""
        return step % self.config.log_every == 0 or step == self.config.steps

    def evaluation_is_due(self, step: int) -> bool:
        """Whether an evaluation follows this step."""
        every = self.config.steps_between_evaluations
        due = step == self.config.steps or (every > 0 and step % every == 0)
        return self.evaluate is not None and step > 0 and due

    def end_reason(self) -> str:
        """The reason to end the run before its last step; "" = none."""
        patience = self.config.patience
        if patience_ends(self.evaluations, patience):
            return f"no higher mAP in {counted(patience, 'evaluation')} (config.patience)"
        return self.stopped_by_hook

    def checkpoint_is_due(self, step: int) -> bool:
        """Whether a checkpoint follows this step; one is saved before each evaluation."""
        every = self.config.checkpoint_every
        ends = step == self.config.steps or bool(self.stopped_by_hook)
        return step % every == 0 or ends or self.evaluation_is_due(step)

    def log_first_step(self, batch_came: float, finished: float) -> None:
        """Logs the duration of the first step; times are those of `time.perf_counter`."""
        if devices.is_main_process():
            logger.info(
                "first step after %.1f s: %.1f s for data and weights, %.1f s for the start of "
                "TensorFlow and the first batch, %.1f s to compile and run the step",
                finished - self.began,
                self.prepared - self.began,
                batch_came - self.prepared,
                finished - batch_came,
            )

    def log_remaining_time(self, step: int, images_per_second: float) -> None:
        """Logs the estimated remaining time, once, as soon as the speed is known."""
        if self._remaining_time_is_logged or math.isnan(images_per_second):
            return
        self._remaining_time_is_logged = True
        steps = self.config.steps - step
        minutes = steps * self.config.batch_size / images_per_second / 60
        if devices.is_main_process() and minutes >= 1:
            logger.info(
                "about %s for the other %s at this speed, evaluations not included",
                counted(round(minutes), "minute") if minutes < 120 else f"{minutes / 60:.1f} hours",
                counted(steps, "step"),
            )

    def write_metrics(self, step: int, values: dict[str, float], speed: float) -> None:
        """Writes the metrics of an interval of steps; `speed` is left out if it is NaN."""
        scalars = {f"train/{key}": value for key, value in values.items()}
        scalars["train/learning_rate"] = float(self.schedule(step - 1))
        if self.num_images:
            scalars["train/epoch"] = self.epochs(step)
        if math.isfinite(speed):
            scalars["train/images_per_second"] = speed
        self._call_hooks(step, scalars)

    def run_evaluation(self, step: int, state: TrainState) -> None:
        """Evaluates the state after a step, writes its metrics and rates its checkpoint.

        Raises:
          Interrupted: a signal was received.
        """
        assert self.evaluate is not None
        try:
            numbers = self.evaluate(state)
        except Interrupted as error:
            raise self.interrupted(step) from error
        self._call_hooks(step, {f"eval/{key}": value for key, value in numbers.items()})
        mean_ap = self.evaluations[step] = numbers.get("mAP")
        if mean_ap is not None:  # the data has objects
            self.checkpoints.rate(step, mean_ap)

    def _call_hooks(self, step: int, values: Mapping[str, float | None]) -> None:
        """Calls the hooks. They may end the run, with `StopTraining` or another exception."""
        try:
            reason = self.hooks.scalars(step, values)
        except Exception:
            self.checkpoints.wait()
            raise
        self.stopped_by_hook = self.stopped_by_hook or reason

    def interrupted(self, step: int) -> Interrupted:
        """The exception that ends an interrupted run; the checkpoint of the step is saved."""
        reason = self.interruption.reason()
        return Interrupted(
            f"{reason}: stopped at step {step} of {self.config.steps}, which is saved"
        )

    @contextlib.contextmanager
    def saves_finished(self) -> Iterator[None]:
        """A block that waits at its end until all checkpoints are saved, also when interrupted."""
        try:
            yield
        except UserError:  # may be raised in this process alone
            self.checkpoints.wait()
            raise
        except Interrupted:
            self.checkpoints.wait_together()
            raise
        self.checkpoints.wait_together()
