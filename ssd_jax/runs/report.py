"""Writes the report of an evaluation, and the result of a run at its end."""

import functools
import logging
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import Any

from ssd_jax.config.schema import Config
from ssd_jax.data.content import count_content
from ssd_jax.data.datasets import Dataset
from ssd_jax.data.records import NamedImage
from ssd_jax.distributed import devices, exchange
from ssd_jax.errors import UserError
from ssd_jax.evaluation import voc
from ssd_jax.evaluation.drawing import DRAWN, draw_detections
from ssd_jax.evaluation.metrics import METRICS
from ssd_jax.evaluation.results import ImageResult
from ssd_jax.evaluation.weakest import Weakest, describe_weakest
from ssd_jax.models.network import Variables
from ssd_jax.runs.evaluator import Evaluated, Evaluator
from ssd_jax.runs.length import longer_command
from ssd_jax.runs.pictures import NUM_PICTURES, save_pictures
from ssd_jax.runs.result import TrainResult, describe_result, next_commands
from ssd_jax.training.checkpoints import Checkpoints
from ssd_jax.training.hooks import Hooks

logger = logging.getLogger(__name__)


def images_of(dataset: Dataset) -> Callable[[Collection[str]], dict[str, NamedImage]]:
    """Reads images of the data by their names."""
    from ssd_jax.data.evaluation_batches import read_images

    return functools.partial(read_images, dataset)


def write_page(
    folder: Path,
    results: Sequence[ImageResult],
    summary: dict[str, Any],
    about: dict[str, str],
    dataset: Dataset,
    image_size: int | None = None,
    of_run: str = "",
) -> None:
    """Writes a page about the results; see `evaluation.report.write_report`."""
    # Matplotlib and Jinja are not needed without a page.
    from ssd_jax.evaluation.report import write_report

    names, images = dataset.class_names, images_of(dataset)
    write_report(folder, results, names, summary, about, images, image_size, of_run)
    logger.info("the report is %s", folder / "index.html")


def log_result(
    result: TrainResult,
    config: Config,
    evaluator: Evaluator | None,
    origin: str,
    check: Callable[[], None],
    missing: str = "",
) -> None:
    """Logs the result of a run; evaluates its best checkpoint again, for a report and pictures.

    Args:
      result: the result of the run.
      config: the config of the run.
      evaluator: the evaluator of its evaluation data; None without such data.
      origin: a description of the evaluation data.
      check: called after every batch; may raise an error to end early.
      missing: advice about something that the run lacks, printed first; "" = none.
    """
    num_objects, weakest = [], None
    if evaluator is not None and result.best_step is not None and config.report:
        place, size = result.workdir / "report", config.model.image_size
        if devices.is_main_process():
            logger.info("evaluating the best checkpoint again, for %s", place / "index.html")
        results, pictures, _ = _evaluate_again(result, config, evaluator, check)
        # The report has all metrics of the same detections, that of the config first.
        metrics = sorted(METRICS, key=lambda metric: metric != config.metric)
        summary = evaluator.summarise(results, metrics)
        num_objects = list(summary["num_objects"].values())
        weakest = _weakest(results, config, evaluator.dataset)
        if devices.is_main_process():
            about = {"run": f"{result.workdir}, step {result.best_step}", "data": origin}
            drawn = draw_detections(pictures, results, evaluator.dataset.class_names)
            save_pictures(result.workdir, "detections", drawn, Hooks(), result.best_step, DRAWN)
            try:
                told = describe_result(
                    result, num_objects, weakest, longer_command(config), missing
                )
                write_page(place, results, summary, about, evaluator.dataset, size, told)
            except UserError as error:  # the result is logged in any case
                logger.warning("there is no report: %s", error)
    elif evaluator is not None:
        num_objects = count_content(evaluator.dataset).num_objects.tolist()
    if devices.is_main_process():
        told = describe_result(result, num_objects, weakest, longer_command(config), missing)
        end = next_commands(result, evaluator is not None, are_of_best=config.report)
        logger.info("%s", "\n".join(filter(None, [told, end])))


def _evaluate_again(
    result: TrainResult,
    config: Config,
    evaluator: Evaluator,
    check: Callable[[], None],
) -> Evaluated:
    """The detections of the best checkpoint."""
    shapes = evaluator.network.variable_shapes()

    def read() -> tuple[Variables, Variables]:
        checkpoints = Checkpoints(result.workdir / "checkpoints", read_only=True)
        variables = checkpoints.restore_model(
            *shapes, step=result.best_step, averages=config.ema > 0
        )
        checkpoints.close()
        return variables

    variables = exchange.arrays_from_main_process(read, shapes)
    return evaluator(devices.replicate(variables), NUM_PICTURES, check)


def _weakest(results: Sequence[ImageResult], config: Config, dataset: Dataset) -> Weakest | None:
    """The class with the lowest AP, by the metric of the config or the nearest VOC metric."""
    metric = METRICS[config.metric]
    rule = voc.METRIC if metric.own_iou_thresholds else metric
    return describe_weakest(results, dataset.class_names, config.model.image_size, rule.average)
