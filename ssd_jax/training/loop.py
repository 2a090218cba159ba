"""The training loop: batch after batch through the step, with everything that is due between."""

import logging
import math
import time
from collections.abc import Callable, Iterator

import jax
import numpy as np
from tqdm import tqdm

from ssd_jax import parallel
from ssd_jax.errors import UserError
from ssd_jax.training.checkpoints import Checkpoints
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
    writer: MetricsWriter | None,
    evaluate: Evaluate | None,
    log_every: int,
    checkpoint_every: int,
    eval_every: int,
) -> None:
    """Trains from the state's step up to `steps`.

    Args:
      state: where to start.
      train_step: a train step under `parallel.pmap_train_step`.
      batches: this process's batches, beginning with the one that follows the state's step.
      steps: the step to stop at.
      batch_size: images a step, of all processes.
      schedule: learning rate by step, for the log.
      checkpoints: where states are saved.
      writer: where metrics go; None on all but the main process.
      evaluate: gives metrics of a state, `mAP` among them; None to never evaluate.
      log_every: steps between two log lines.
      checkpoint_every: steps between two checkpoints; the last step is always saved.
      eval_every: steps between two evaluations; 0 = only after the last step.

    Raises:
      UserError: the loss is no longer a number.
    """
    first_step = int(state.step)
    placed = parallel.prefetch(batches, DEVICE_KEYS)
    waiting_metrics, interval_start = [], None
    dropped, dropped_before = 0, 0
    progress = tqdm(
        total=steps,
        initial=first_step,
        desc="train",
        unit="step",
        dynamic_ncols=True,
        disable=writer is None,
    )
    with progress:
        for step in range(first_step + 1, steps + 1):
            batch, device_batch = next(placed)
            dropped += int(batch["dropped"].sum())
            state, metrics = train_step(state, device_batch)
            waiting_metrics.append(metrics)
            if interval_start is None:
                # The first step compiles: it is left out of the speed, and the loss is waited for.
                jax.block_until_ready(metrics)
                interval_start, interval_steps = time.perf_counter(), 0
            else:
                interval_steps += 1

            if step % log_every == 0 or step == steps:
                # The only place where the host waits for the device.
                values = _mean_metrics(waiting_metrics)
                waiting_metrics = []
                _check_finite(values["loss"], step)
                elapsed = time.perf_counter() - interval_start
                speed = interval_steps * batch_size / elapsed if interval_steps else math.nan
                values["objects_dropped"] = dropped - dropped_before
                dropped_before = dropped
                if writer:
                    _log(writer, step, values, float(schedule(step - 1)), speed)
                progress.set_postfix_str(f"loss {values['loss']:.3f}, {speed:.1f} images/s", False)
                interval_start, interval_steps = time.perf_counter(), 0
            progress.update()

            is_last = step == steps
            evaluation = None
            if evaluate and (is_last or (eval_every > 0 and step % eval_every == 0)):
                evaluation = evaluate(state)
                if writer:
                    writer.scalars(step, {f"eval/{key}": v for key, v in evaluation.items()})
            if evaluation or is_last or step % checkpoint_every == 0:
                checkpoints.save(state, evaluation)
            if evaluation:
                interval_start, interval_steps = time.perf_counter(), 0
    checkpoints.wait()
    if dropped:
        logger.warning(
            "training data: %d boxes were left out, without area or beyond config.data.max_objects "
            "(counted each time their picture was used)",
            dropped,
        )


def _mean_metrics(metrics: list[dict[str, jax.Array]]) -> dict[str, float]:
    on_host = parallel.to_host(metrics)
    return {key: float(np.mean([step[key] for step in on_host])) for key in on_host[0]}


def _check_finite(loss: float, step: int) -> None:
    if not math.isfinite(loss):
        raise UserError(
            f"the loss is {loss} before step {step}: lower config.learning_rate, or raise "
            "config.warmup_steps"
        )


def _log(
    writer: MetricsWriter, step: int, values: dict[str, float], learning_rate: float, speed: float
) -> None:
    scalars = {f"train/{key}": value for key, value in values.items()}
    scalars["train/learning_rate"] = learning_rate
    if math.isfinite(speed):
        scalars["train/images_per_second"] = speed
    writer.scalars(step, scalars)
