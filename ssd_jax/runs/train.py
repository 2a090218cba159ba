"""From a config and a work directory to a trained detector: where the rooms meet."""

import contextlib
import functools
import itertools
import logging
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict
from PIL import Image

from ssd_jax.config.schema import Config, as_config
from ssd_jax.distributed import devices
from ssd_jax.errors import UserError
from ssd_jax.evaluation.drawing import draw_detections
from ssd_jax.evaluation.summary import COCO_NUMBERS, METRICS, format_table
from ssd_jax.images.drawing import contact_sheet, draw_input
from ssd_jax.interop.transfer import format_transfer
from ssd_jax.models.network import build_network
from ssd_jax.runs.evaluator import Evaluator
from ssd_jax.runs.initial_weights import initial_weights
from ssd_jax.runs.nonfinite import save_batch
from ssd_jax.runs.provenance import describe_program
from ssd_jax.runs.workdir import check_classes, check_same_config, locked, record_run, record_start
from ssd_jax.storage.files import local_path, write_text
from ssd_jax.training.checkpoints import Checkpoints
from ssd_jax.training.guard import Guard
from ssd_jax.training.interruption import Interruption
from ssd_jax.training.loop import train_loop
from ssd_jax.training.metrics_writer import MetricsWriter, read_metrics
from ssd_jax.training.optimizer import make_optimizer, make_schedule
from ssd_jax.training.parameters import check_patterns, matching
from ssd_jax.training.state import TrainState, initial_state
from ssd_jax.training.steps import make_train_step

# The data room, and TensorFlow with it, is imported by the functions that read data: everything
# on the device's side works where TensorFlow is not installed.

logger = logging.getLogger(__name__)

NUM_PICTURES = 12


def train(config: Config | ConfigDict, workdir: str | Path, change_config: bool = False) -> None:
    """Trains as the config says; goes on where an earlier run in the work directory stopped.

    Args:
      config: a config of `configs/`.
      workdir: the work directory, made where it does not exist.
      change_config: whether the earlier run may have had another config.

    Raises:
      UserError: something in the config, the data or the work directory is wrong, or loss or
        gradient are not finite.
      Interrupted: SIGTERM or SIGINT came. The state is saved; called again, it goes on.
    """
    began = time.perf_counter()
    config, folder = as_config(config), local_path(workdir)
    if config.metric not in METRICS:
        raise UserError(
            f"config.metric is {config.metric!r}, but must be one of {', '.join(METRICS)}"
        )
    if not change_config:
        check_same_config(folder, config)
    with Interruption() as interruption, contextlib.ExitStack() as until_the_end:
        _train(config, folder, interruption, until_the_end, began)


def _train(
    config: Any,
    folder: Path,
    interruption: Interruption,
    until_the_end: contextlib.ExitStack,
    began: float,
) -> None:
    from ssd_jax.data.sources import open_training_data
    from ssd_jax.data.training_batches import training_batches

    batch_size = devices.per_process_batch_size(config.batch_size, config.accumulate)

    source = open_training_data(config, folder, devices.is_main_process())
    class_names = source.class_names
    logger.info(
        "%d training images, %d classes: %s",
        len(source),
        len(class_names),
        ", ".join(class_names),
    )

    network = build_network(config.model, len(class_names))
    parameter_shapes, _ = network.variable_shapes()
    check_patterns(parameter_shapes, config.freeze, "config.freeze")
    frozen = matching(parameter_shapes, config.freeze)
    schedule = make_schedule(config)
    optimizer = make_optimizer(config, schedule)
    new_state = functools.partial(
        initial_state, optimizer=optimizer, frozen=frozen, averages=config.ema > 0
    )
    evaluator = None
    if config.eval_every >= 0:
        evaluator = Evaluator(config, network, class_names, workdir=folder)

    check_classes(folder, class_names)
    # All mistakes that can be told before are told before anything is written.
    if devices.is_main_process():
        until_the_end.enter_context(locked(folder))
    checkpoints = Checkpoints(folder / "checkpoints", keep=config.keep_checkpoints)
    progress, evaluations = {}, {}
    if checkpoints.steps():
        state = checkpoints.restore(jax.eval_shape(new_state, *network.variable_shapes()))
        progress = checkpoints.restore_progress()
        evaluations = devices.from_main_process(_evaluations(folder))
        for step, mean_ap in evaluations.items():
            if mean_ap is not None:
                checkpoints.rate(step, mean_ap)
        logger.info("%s: continuing at step %d of %d", folder, state.step, config.steps)
    else:
        weights = initial_weights(config.init, network, config.seed, class_names)
        state = new_state(*weights.variables)
    first_step = int(state.step)
    evaluated = first_step in evaluations
    if first_step >= config.steps and (evaluated or not evaluator):
        logger.info("nothing to do: raise config.steps with --change_config")
        return

    if devices.is_main_process():
        record_run(folder, config, class_names, source.category_ids)
        described = devices.describe_devices()
        record_start(folder, describe_program() | {"step": first_step, "devices": described})
        if config.init and first_step == 0:
            table = format_transfer(weights)
            logger.info("weights from %s:\n%s", config.init, table)
            write_text(folder / "weights.txt", table + "\n")

    def batches_from(step: int, process_index: int) -> Iterator[dict[str, np.ndarray]]:
        return training_batches(
            config,
            source,
            batch_size,
            first_step=step,
            process_index=process_index,
            process_count=devices.process_count(),
        )

    batches = batches_from(first_step, devices.process_index())
    train_step = make_train_step(config, network, optimizer, frozen)

    writer = None
    if devices.is_main_process():
        writer = MetricsWriter(folder, first_step)
        first_batch = next(batches)
        batches = itertools.chain([first_batch], batches)
        pictures = _draw_training_pictures(first_batch, class_names)
        _save_pictures(folder, "training", pictures, writer, first_step)

    def save_nonfinite(step: int, numbers: dict[str, float]) -> str:
        if not devices.is_main_process():
            return "its batch is kept by process 0"
        # A batch is that of its step, so it can be made again.
        shares = [next(batches_from(step - 1, i)) for i in range(devices.process_count())]
        batch = {key: np.concatenate([share[key] for share in shares]) for key in shares[0]}
        return save_batch(folder, batch, numbers, class_names)

    guard = Guard(
        config.on_nonfinite,
        config.max_skipped,
        schedule,
        save_nonfinite,
        skipped=progress.get("skipped", 0),
    )

    def evaluate_state(state: TrainState) -> dict[str, float]:
        results, pictures = evaluator(state.for_evaluation(), NUM_PICTURES, interruption.check)
        summary = evaluator.summarise(results, [config.metric])
        if writer:
            logger.info("step %d\n%s", state.step, format_table(summary))
            drawn = draw_detections(pictures, results, class_names)
            _save_pictures(folder, "detections", drawn, writer, int(state.step))
        others = {name: summary.get(name) for name in COCO_NUMBERS}
        numbers = {"mAP": summary["mAP"]} | others
        return {name: value for name, value in numbers.items() if value is not None}

    train_loop(
        devices.replicate(state),
        devices.pmap_train_step(train_step),
        batches,
        steps=config.steps,
        batch_size=config.batch_size,
        schedule=schedule,
        checkpoints=checkpoints,
        guard=guard,
        interruption=interruption,
        writer=writer,
        evaluate=evaluate_state if evaluator else None,
        evaluated=evaluated,
        progress=progress,
        log_every=config.log_every,
        checkpoint_every=config.checkpoint_every,
        eval_every=config.eval_every,
        began=began,
    )
    checkpoints.close()
    if writer:
        writer.close()
        logger.info("done: checkpoints, metrics and pictures are in %s", folder)


def _evaluations(folder: Path) -> dict[int, float | None]:
    """The mAP by step of the evaluations that a run has done."""
    return {
        line["step"]: line.get("eval/mAP")
        for line in read_metrics(folder)
        if any(name.startswith("eval/") for name in line)
    }


def _draw_training_pictures(
    batch: dict[str, np.ndarray], class_names: Sequence[str]
) -> list[Image.Image]:
    """The first images of a batch with their boxes, as they go to the device."""
    inputs = zip(batch["image"], batch["boxes"], batch["labels"], strict=True)
    return [draw_input(*given, class_names) for given in itertools.islice(inputs, NUM_PICTURES)]


def _save_pictures(
    folder: Path, name: str, pictures: Sequence[Image.Image], writer: MetricsWriter, step: int
) -> None:
    """Writes `pictures/NAME.png` with all of them, and `pictures/NAME_00.png`, … one by one."""
    (folder / "pictures").mkdir(exist_ok=True)
    sheet = contact_sheet(pictures)
    sheet.save(folder / "pictures" / f"{name}.png")
    for i, picture in enumerate(pictures):
        picture.save(folder / "pictures" / f"{name}_{i:02d}.png")
    writer.image(step, name, np.asarray(sheet))
