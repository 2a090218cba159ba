"""The training loop: batch after batch through the step, with everything that is due between."""

import contextlib
import logging
import math
import time
from collections.abc import Callable, Iterator

import jax
import numpy as np
from tqdm import tqdm

from ssd_jax.distributed import devices
from ssd_jax.errors import Interrupted, UserError
from ssd_jax.training.checkpoints import Checkpoints, Progress
from ssd_jax.training.guard import Guard
from ssd_jax.training.interruption import Interruption
from ssd_jax.training.metrics_writer import MetricsWriter
from ssd_jax.training.state import TrainState

logger = logging.getLogger(__name__)

# What of a batch the device needs.
DEVICE_KEYS = ("image", "window", "boxes", "labels")

Evaluate = Callable[[TrainState], dict[str, float]]


def train_loop(
    state: TrainState,
    train_step: Callable,
    batches: Iterator[dict[str, np.ndarray]],
    *,
    steps: int,
    batch_size: int,
    schedule: Callable[[int], float],
    checkpoints: Checkpoints,
    guard: Guard,
    interruption: Interruption,
    writer: MetricsWriter | None,
    evaluate: Evaluate | None,
    evaluated: bool,
    progress: Progress,
    log_every: int,
    checkpoint_every: int,
    eval_every: int,
    began: float,
) -> None:
    """Trains from the state's step up to `steps`.

    However often it is cut off and started again, what it does and writes is the same.

    Args:
      state: where to start.
      train_step: a train step under `devices.pmap_train_step`.
      batches: this process's batches, beginning with the one that follows the state's step.
      steps: the step to stop at.
      batch_size: images a step, of all processes.
      schedule: learning rate by step, for the log.
      checkpoints: where states are saved.
      guard: watches the numbers of every step.
      interruption: says when the loop shall end early.
      writer: where metrics go; None on all but the main process.
      evaluate: gives metrics of a state, `mAP` among them; None to never evaluate.
      evaluated: whether the first state was evaluated before.
      progress: what was saved beside the first state; empty at the start of a run.
      log_every: steps between two log lines.
      checkpoint_every: steps between two checkpoints; the last step is always saved.
      eval_every: steps between two evaluations; 0 = only after the last step.
      began: when the program began to prepare, by `time.perf_counter`, to tell how long it took.

    Raises:
      UserError: loss or gradient are not finite, or a checkpoint cannot be written.
      Interrupted: a signal came; the state is saved.
    """
    first_step = int(state.step)
    interval = _Interval(guard, first_step, progress)
    bar = tqdm(
        total=steps,
        initial=first_step,
        desc="train",
        unit="step",
        dynamic_ncols=True,
        disable=writer is None,
    )

    def evaluation_is_due(step: int) -> bool:
        every = eval_every > 0 and step % eval_every == 0
        return evaluate is not None and step > 0 and (step == steps or every)

    def run_evaluation(step: int) -> None:
        try:
            numbers = evaluate(state)
        except Interrupted as error:
            raise _interrupted(interruption, step, steps) from error
        if writer:
            writer.scalars(step, {f"eval/{key}": value for key, value in numbers.items()})
        if "mAP" in numbers:
            checkpoints.rate(step, numbers["mAP"])

    with bar, _saves_finished(checkpoints):
        interruption.defer()
        if evaluation_is_due(first_step) and not evaluated:
            run_evaluation(first_step)
        placed = devices.prefetch(batches, DEVICE_KEYS) if first_step < steps else None
        stopwatch_start, timed_steps = None, 0
        for step in range(first_step + 1, steps + 1):
            batch, device_batch = next(placed)
            if stopwatch_start is None:
                batch_came = time.perf_counter()
            state, metrics = train_step(state, device_batch)
            interval.add(metrics, int(batch["dropped"].sum()))
            stop = interruption.requested()
            if stopwatch_start is None:
                # The first step compiles: it is left out of the speed, and waited for.
                jax.block_until_ready(metrics)
                stopwatch_start, timed_steps = time.perf_counter(), 0
                if writer:
                    logger.info(
                        "first step after %.1f s: %.1f s until its batch was there, %.1f s for the "
                        "step, compiling included",
                        stopwatch_start - began,
                        batch_came - began,
                        stopwatch_start - batch_came,
                    )
            else:
                timed_steps += 1

            if step % log_every == 0 or step == steps:
                values = interval.finish()
                elapsed = time.perf_counter() - stopwatch_start
                speed = timed_steps * batch_size / elapsed if timed_steps else math.nan
                if writer:
                    _log(writer, step, values, float(schedule(step - 1)), speed)
                loss = values.get("loss", math.nan)
                bar.set_postfix_str(f"loss {loss:.3f}, {speed:.1f} images/s", False)
                stopwatch_start, timed_steps = time.perf_counter(), 0
            bar.update()

            evaluation_due = evaluation_is_due(step)
            if evaluation_due or stop or step == steps or step % checkpoint_every == 0:
                # Before the evaluation, so that nothing is lost if that is cut off.
                checkpoints.save(state, interval.progress())
            if stop and (evaluation_due or step < steps):
                raise _interrupted(interruption, step, steps)
            if evaluation_due:
                run_evaluation(step)
                stopwatch_start, timed_steps = time.perf_counter(), 0
    if interval.all_dropped:
        logger.warning(
            "training data: %d boxes were left out, without area or beyond config.data.max_objects "
            "(counted each time their picture was used)",
            interval.all_dropped,
        )


def _interrupted(interruption: Interruption, step: int, steps: int) -> Interrupted:
    return Interrupted(f"{interruption.reason()}: stopped at step {step} of {steps}")


class _Interval:
    """What was measured since the last log line.

    Only `finish` and `progress` wait for the device.
    """

    def __init__(self, guard: Guard, step: int, progress: Progress):
        self._guard = guard
        self._step = step  # the last that was looked at
        self._on_device = []
        self._values = progress.get("values", [])  # of the steps that were finite
        self._dropped = progress.get("dropped", 0)
        self.all_dropped = progress.get("all_dropped", 0)

    def add(self, metrics: dict[str, jax.Array], dropped: int) -> None:
        """One more step."""
        self._on_device.append(metrics)
        self._dropped += dropped
        self.all_dropped += dropped

    def finish(self) -> dict[str, float]:
        """Means over the steps, and counts; begins a new interval."""
        self._look()
        names = self._values[0] if self._values else ()
        means = {key: float(np.mean([values[key] for values in self._values])) for key in names}
        counts = {"objects_dropped": self._dropped, "updates_skipped": self._guard.skipped}
        self._values, self._dropped = [], 0
        return means | counts

    def progress(self) -> Progress:
        """What is needed to go on from here."""
        self._look()
        return {
            "values": self._values,
            "dropped": self._dropped,
            "all_dropped": self.all_dropped,
            "skipped": self._guard.skipped,
        }

    def _look(self) -> None:
        for metrics in devices.to_host(self._on_device):
            self._step += 1
            values = {key: float(value) for key, value in metrics.items()}
            if self._guard.check(self._step, values):
                self._values.append(values)
        self._on_device = []


@contextlib.contextmanager
def _saves_finished(checkpoints: Checkpoints) -> Iterator[None]:
    """A block whose saves are complete when it ends, also where it ends early in good order."""
    try:
        yield
    except (UserError, Interrupted):
        checkpoints.wait()
        raise
    checkpoints.wait()


def _log(
    writer: MetricsWriter, step: int, values: dict[str, float], learning_rate: float, speed: float
) -> None:
    scalars = {f"train/{key}": value for key, value in values.items()}
    scalars["train/learning_rate"] = learning_rate
    if math.isfinite(speed):
        scalars["train/images_per_second"] = speed
    writer.scalars(step, scalars)
