"""The training loop: runs the steps, and the logging, checkpoints and evaluations between them."""

import logging
import math
import time
from collections.abc import Callable, Iterator

import numpy as np
from tqdm import tqdm

from ssd_jax.distributed import devices, watch
from ssd_jax.progress import progress_bar
from ssd_jax.training.interval import Interval, Speed
from ssd_jax.training.run import Run
from ssd_jax.training.state import TrainState
from ssd_jax.training.steps import TrainStep, step_numbers

logger = logging.getLogger(__name__)

# Of the progress bar before the speed is known: the first steps give no estimate of the time.
WITHOUT_ESTIMATE = "{l_bar}{bar}| {n_fmt}/{total_fmt} [{elapsed}{postfix}]"

# The arrays of a batch that the device needs.
DEVICE_KEYS = ("image", "window", "boxes", "labels")


def train_loop(
    state: TrainState, train_step: TrainStep, batches: Iterator[dict[str, np.ndarray]], run: Run
) -> None:
    """Trains from the state's step up to `config.steps`, or until patience or a hook ends it.

    Its steps and files are the same for any number of interruptions and restarts.

    Args:
      state: the first state.
      train_step: a train step under `devices.pmap_train_step`.
      batches: this process's batches, beginning with the one that follows the state's step.
      run: the settings, files and hooks of the run.

    Raises:
      UserError: the loss or the gradient is not finite, or a checkpoint cannot be written.
      Interrupted: a signal was received; the state is saved.
    """
    config, first_step, numbers = run.config, int(state.step), step_numbers(run.config)
    interval = Interval(run.guard, first_step, run.progress)
    with _progress_bar(run, first_step) as bar, run.saves_finished():
        if run.evaluation_is_due(first_step) and first_step not in run.evaluations:
            run.run_evaluation(first_step, state)
        placed = devices.prefetch(batches, DEVICE_KEYS) if first_step < config.steps else iter(())
        speed, shown = Speed(config.batch_size), _no_metrics
        for step in range(first_step + 1, config.steps + 1):
            if reason := run.end_reason():
                _log_end(run, step - 1, reason)
                break
            batch, device_batch = next(placed)
            batch_came = time.perf_counter()
            with watch.waiting(f"step {step} of all processes"):
                state, metrics = train_step(state, device_batch, numbers(step - 1))
                run.interruption.exchange()
            interval.add(metrics, int(batch["dropped"].sum()))
            stop = run.interruption.requested
            if step == first_step + 1:
                # The first step compiles: the loop waits for it, and leaves it out of the speed.
                devices.wait_for(metrics)
                run.interruption.defer()
                run.log_first_step(batch_came, time.perf_counter())
                speed.restart()
            else:
                speed.add_step()

            if run.logging_is_due(step):
                interval.catch_up()
                shown = _log(run, step, interval.means(), speed.images_per_second(), bar)
                interval.restart()
                speed.restart()
            _advance(bar, shown(step))

            if stop or run.checkpoint_is_due(step):
                interval.catch_up()
                run.checkpoints.save(state, interval.progress())
            if stop and (run.evaluation_is_due(step) or step < config.steps):
                raise run.interrupted(step)
            if run.evaluation_is_due(step):
                run.run_evaluation(step, state)
                speed.restart()
    _warn_of_dropped(interval.all_dropped)


def _progress_bar(run: Run, first_step: int) -> tqdm:
    bar = progress_bar(
        total=run.config.steps,
        initial=first_step,
        desc="train",
        unit="step",
        disable=not devices.is_main_process(),
    )
    bar.bar_format = WITHOUT_ESTIMATE
    return bar


def _log(
    run: Run, step: int, values: dict[str, float], images_per_second: float, bar: tqdm
) -> Callable[[int], str]:
    """Writes a line of metrics; returns a function that describes the state after a later step."""
    run.write_metrics(step, values, images_per_second)
    run.log_remaining_time(step, images_per_second)
    if not math.isnan(images_per_second):
        bar.bar_format = None  # from now on with an estimate
    loss = values.get("loss", math.nan)

    def describe(step: int) -> str:
        parts = [f"loss {loss:.3f}"]
        if run.num_images:
            parts.append(f"epoch {run.epochs(step):.1f} of {run.epochs(run.config.steps):.1f}")
        if not math.isnan(images_per_second):  # NaN after the first step, which compiles
            parts.append(f"{images_per_second:.1f} images/s")
        return ", ".join(parts)

    return describe


def _advance(bar: tqdm, state: str) -> None:
    bar.set_postfix_str(state, False)
    bar.update()


def _no_metrics(step: int) -> str:
    """The description before the first line of metrics."""
    del step
    return ""


def _log_end(run: Run, step: int, reason: str) -> None:
    if devices.is_main_process():
        logger.info("%s: the run ends at step %d of %d", reason, step, run.config.steps)


def _warn_of_dropped(count: int) -> None:
    if count:
        logger.warning(
            "training data: %d boxes were left out, without area or beyond config.data.max_objects "
            "(counted each time their image was used)",
            count,
        )
