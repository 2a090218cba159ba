"""From a config and a work directory to a trained detector and its mAP: where the rooms meet."""

import functools
import itertools
import json
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
from PIL import Image

from ssd_jax import parallel
from ssd_jax.evaluation.draw import contact_sheet, draw_input
from ssd_jax.evaluation.evaluator import make_predict_step, run_detector
from ssd_jax.evaluation.report import draw_detections, format_table, summarise
from ssd_jax.initial_weights import initial_weights
from ssd_jax.interop.transfer import format_transfer
from ssd_jax.models.network import Network, Variables, build_network
from ssd_jax.training.checkpoints import Checkpoints
from ssd_jax.training.loop import train_loop
from ssd_jax.training.metrics_writer import MetricsWriter
from ssd_jax.training.optimizer import build_optimizer, build_schedule
from ssd_jax.training.parameters import check_patterns, matching
from ssd_jax.training.state import TrainState, initial_state
from ssd_jax.training.steps import make_train_step
from ssd_jax.workdir import check_classes, read_class_names, record_run

# The data room, and TensorFlow with it, is imported by the functions that read data: everything
# on the device's side works where TensorFlow is not installed.

logger = logging.getLogger(__name__)

NUM_PICTURES = 12


def train(config: Any, workdir: str) -> None:
    """Trains as the config says; goes on where an earlier run in the work directory stopped.

    Args:
      config: a config of `configs/`.
      workdir: the work directory, made where it does not exist.

    Raises:
      UserError: something in the config, the data or the work directory is wrong.
    """
    from ssd_jax.data.pipeline import build_train_batches
    from ssd_jax.data.sources import build_train_source

    folder = Path(workdir)
    batch_size = parallel.per_process_batch_size(config.batch_size, config.accumulate)

    source = build_train_source(config)
    class_names = source.class_names
    logger.info(
        "%d training pictures, %d classes: %s",
        source.num_examples,
        len(class_names),
        ", ".join(class_names),
    )

    network = build_network(config.model, len(class_names))
    parameter_shapes, _ = network.variable_shapes()
    check_patterns(parameter_shapes, config.freeze, "config.freeze")
    frozen = matching(parameter_shapes, config.freeze)
    schedule = build_schedule(config)
    optimizer = build_optimizer(config, schedule)
    new_state = functools.partial(
        initial_state, optimizer=optimizer, frozen=frozen, averages=config.ema > 0
    )
    evaluator = None
    if config.eval_every >= 0:
        evaluator = Evaluator(config, network, class_names)

    check_classes(folder, class_names)
    checkpoints = Checkpoints(folder / "checkpoints", keep=config.keep_checkpoints)
    if checkpoints.steps():
        state = checkpoints.restore(jax.eval_shape(new_state, *network.variable_shapes()))
        logger.info("%s: continuing at step %d of %d", folder, state.step, config.steps)
    else:
        weights = initial_weights(config.init, network, config.seed, class_names)
        state = new_state(*weights.variables)
    if state.step >= config.steps:
        logger.info("nothing to do: raise config.steps, or name another work directory")
        return

    if parallel.is_main_process():
        record_run(folder, config, class_names, source.category_ids)
        if config.init and state.step == 0:
            table = format_transfer(weights)
            logger.info("weights from %s:\n%s", config.init, table)
            (folder / "weights.txt").write_text(table + "\n")
    batches = build_train_batches(
        config,
        source,
        batch_size,
        first_step=int(state.step),
        process_index=parallel.process_index(),
        process_count=parallel.process_count(),
    )
    train_step = make_train_step(
        network,
        optimizer,
        seed=config.seed,
        frozen=frozen,
        freeze_batch_norm=config.freeze_batch_norm,
        accumulate=config.accumulate,
        ema=config.ema,
        color=config.augment.color,
        flip=config.augment.flip,
        iou_threshold=config.loss.iou_threshold,
        boundary_boxes=config.loss.boundary_boxes,
        negatives_per_positive=config.loss.negatives_per_positive,
        min_negatives=config.loss.min_negatives,
        localisation_weight=config.loss.localisation_weight,
        label_smoothing=config.loss.label_smoothing,
    )

    writer = None
    if parallel.is_main_process():
        writer = MetricsWriter(folder)
        first_batch = next(batches)
        batches = itertools.chain([first_batch], batches)
        pictures = _draw_training_pictures(first_batch, class_names)
        _save_pictures(folder, "training", pictures, writer, int(state.step))

    def evaluate_state(state: TrainState) -> dict[str, float]:
        summary, pictures = evaluator(state.for_evaluation())
        if writer:
            logger.info("step %d\n%s", state.step, format_table(summary))
            _save_pictures(folder, "detections", pictures, writer, int(state.step))
        return {"mAP": summary["mAP"], "mAP_area": summary["mAP_area"]}

    train_loop(
        parallel.replicate(state),
        parallel.pmap_train_step(train_step),
        batches,
        steps=config.steps,
        batch_size=config.batch_size,
        schedule=schedule,
        checkpoints=checkpoints,
        writer=writer,
        evaluate=evaluate_state if evaluator else None,
        log_every=config.log_every,
        checkpoint_every=config.checkpoint_every,
        eval_every=config.eval_every,
    )
    checkpoints.close()
    if writer:
        writer.close()
        logger.info("done: checkpoints, metrics and pictures are in %s", folder)


def evaluate(
    config: Any, workdir: str, checkpoint: int | None = None, output: str | None = None
) -> None:
    """Evaluates a checkpoint of a work directory on `config.data.eval`; prints and writes the AP.

    Args:
      config: the config of the run; `data.eval` may name other data.
      workdir: the work directory of the run.
      checkpoint: which step; the last one where None.
      output: a JSON file to write the numbers to.

    Raises:
      UserError: the work directory holds no such run.
    """
    folder = Path(workdir)
    class_names = read_class_names(folder)
    network = build_network(config.model, len(class_names))
    checkpoints = Checkpoints(folder / "checkpoints", read_only=True)
    variables = checkpoints.restore_model(
        *network.variable_shapes(), step=checkpoint, averages=config.ema > 0
    )
    checkpoints.close()

    evaluator = Evaluator(config, network, class_names)
    summary, _ = evaluator(parallel.replicate(variables))
    if parallel.is_main_process():
        print(format_table(summary))
        if output:
            Path(output).write_text(json.dumps(summary, indent=2) + "\n")


class Evaluator:
    """Evaluates variables on `config.data.eval`, again and again, compiled once."""

    def __init__(self, config: Any, network: Network, class_names: Sequence[str]):
        """Opens the data.

        Args:
          config: a config of `configs/`.
          network: what is evaluated.
          class_names: the classes it was trained on.
        """
        from ssd_jax.data.sources import open_source

        self._source = open_source(config.data.eval, class_names)
        self._class_names = class_names
        self._image_size = config.model.image_size
        self._batch_size = parallel.per_process_batch_size(config.batch_size)
        self._predict = parallel.pmap_predict(
            make_predict_step(
                network,
                score_threshold=config.detection.score_threshold,
                iou_threshold=config.detection.iou_threshold,
                boxes_per_class=config.detection.boxes_per_class,
                detections_per_image=config.detection.detections_per_image,
            )
        )

    def __call__(self, variables: tuple[Variables, Variables]) -> tuple[dict, list[Image.Image]]:
        """The summary of the results, and some pictures with detections."""
        from ssd_jax.data.pipeline import eval_batches, num_eval_batches

        process_count = parallel.process_count()
        batches = eval_batches(
            self._source,
            image_size=self._image_size,
            batch_size=self._batch_size,
            process_index=parallel.process_index(),
            process_count=process_count,
        )
        results, pictures = run_detector(
            self._predict,
            variables,
            batches,
            num_eval_batches(self._source, self._batch_size, process_count),
            NUM_PICTURES,
        )
        drawn = draw_detections(pictures, results[: len(pictures)], self._class_names)
        return summarise(results, self._class_names), drawn


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
