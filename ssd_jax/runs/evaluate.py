"""From a trained network, or a file of detections, to mAP, a report and a comparison."""

import dataclasses
import functools
import logging
import os
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from ml_collections import ConfigDict

from ssd_jax.config.schema import Config, DataConfig, as_config
from ssd_jax.data.datasets import Dataset
from ssd_jax.distributed import devices
from ssd_jax.errors import UserError
from ssd_jax.evaluation.comparison import MOST_COMPARED, compare, format_comparison
from ssd_jax.evaluation.detection_files import read_detections, write_detections
from ssd_jax.evaluation.metric import IOU_THRESHOLD
from ssd_jax.evaluation.metrics import METRICS
from ssd_jax.evaluation.results import ImageResult, image_result, sort_results
from ssd_jax.evaluation.summary import format_table, summarise
from ssd_jax.runs.agreement import (
    check_same_data,
    check_same_start,
    check_same_state,
    shared_cut,
)
from ssd_jax.runs.evaluator import Evaluator
from ssd_jax.runs.trained import load_workdir
from ssd_jax.storage.files import local_path, write_json
from ssd_jax.storage.outputs import check_no_input_replaced, check_outputs

logger = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class EvaluationOptions:
    """Options of an evaluation: metrics, and files to write.

    Attributes:
      metrics: of `METRICS`, the most important first. A comparison uses the first.
      metric_iou_threshold: IoU that a match must exceed by VOC's rules.
      output: a JSON file to write the numbers to; "" for none.
      report: a folder to write a page about the results to; "" for none.
      submission: a folder to write the detections to, in the forms of VOC and COCO; "" for none.
    """

    metrics: Sequence[str] = tuple(METRICS)
    metric_iou_threshold: float = IOU_THRESHOLD
    output: str | Path = ""
    report: str | Path = ""
    submission: str | Path = ""

    def __post_init__(self) -> None:
        # Refused before an evaluation that may take an hour.
        check_outputs(*self.files())
        for folder in (self.report, self.submission):
            check_outputs(self.output, folder)  # which cannot be a file as well
            if os.path.isfile(folder):
                raise UserError(f"{folder} is a file, but must be a folder: name another")

    def files(self) -> list[Path]:
        """The files to write, or the last one of a folder."""
        named = ((self.output, ""), (self.report, "index.html"))
        named += ((self.submission, "detections.json"),)
        return [Path(place, file) for place, file in named if place]


def evaluate(
    config: Config | ConfigDict,
    workdir: str | Path,
    *,
    checkpoint: int | None = None,
    flip: bool = False,
    options: EvaluationOptions = EvaluationOptions(),
) -> dict[str, Any]:
    """Evaluates a checkpoint of a work directory on `config.data.eval`.

    The main process prints the numbers as a table.

    Args:
      config: the config of the run; `data.eval` may name other data, `detection` other thresholds.
      workdir: the work directory of the run.
      checkpoint: which step; the last one where None.
      flip: see `make_predict_step`.
      options: what is measured and written.

    Returns:
      The numbers: see `summarise`.

    Raises:
      UserError: the work directory holds no such run, or config or data are wrong.
    """
    config, folder = as_config(config), local_path(workdir)
    check_same_start(config, checkpoint=checkpoint, flip=flip, metric=list(options.metrics))
    trained = load_workdir(folder, checkpoint, config)
    named = config.data.class_names
    if named and named != trained.class_names:
        raise UserError(
            f"config.data.classes names {len(named)} classes ({', '.join(named)}), but {workdir} "
            f"was trained with {len(trained.class_names)} ({', '.join(trained.class_names)}): "
            "leave it empty"
        )
    dataset, origin = _open_data(config, folder, trained.class_names)
    check_same_data(None, dataset)
    check_same_state(trained.variables)
    evaluator = Evaluator(config, trained.network, dataset, flip)
    results, _ = evaluator(devices.replicate(trained.variables))
    summary = evaluator.summarise(results, options.metrics, options.metric_iou_threshold)
    if devices.is_main_process():
        about = {"run": str(workdir), "data": origin}
        _publish(results, summary, about, dataset, options)
        if options.submission:  # last: it refuses names that its forms cannot hold
            place = local_path(options.submission)
            write_detections(results, trained.class_names, trained.category_ids, place)
    return summary


def _open_data(config: Config, folder: Path, class_names: Sequence[str]) -> tuple[Dataset, str]:
    """The images that a run is evaluated on, and where they come from in words."""
    from ssd_jax.data.choice import open_evaluation_data
    from ssd_jax.data.problems import make_problems

    stored = shared_cut(folder)
    # A run that cuts images off says which.
    seed = config.seed if (folder / "imported.json").is_file() else None
    problems = make_problems(config.data, folder, devices.is_main_process())
    dataset, origin = open_evaluation_data(config.data, class_names, problems, stored, seed)
    return dataset, origin


def evaluate_file(
    data: DataConfig,
    detections: str | Path,
    options: EvaluationOptions = EvaluationOptions(),
    seed: int = 0,
) -> dict[str, Any]:
    """Evaluates detections that lie in a file, whoever made them, and prints the numbers.

    Args:
      data: `eval` is what they were made on; `classes` its classes, `on_error` what to do at
        damaged images.
      detections: see `read_detections`.
      options: what is measured and written.
      seed: `config.seed`, where evaluation data is cut off training data.

    Returns:
      The numbers: see `summarise`.

    Raises:
      UserError: the data or the file is wrong, or a result would take the place of the file.
    """
    check_no_input_replaced(options.files(), detections)
    dataset, origin, images = _open_objects(data, seed)
    results = _read_detections(detections, data, dataset, images)
    summary = summarise(results, dataset.class_names, options.metrics, options.metric_iou_threshold)
    _publish(
        results,
        summary,
        {"run": str(detections), "data": origin},
        dataset,
        options,
    )
    return summary


def compare_files(
    data: DataConfig,
    detections: Sequence[str | Path],
    options: EvaluationOptions = EvaluationOptions(),
    seed: int = 0,
) -> dict[str, Any]:
    """Compares detections of several detectors on the same data, each with the first.

    Args:
      data: see `evaluate_file`.
      detections: two or more, up to ten; see `read_detections`.
      options: what is measured and written.
      seed: see `evaluate_file`.

    Returns:
      The comparison: see `compare`.

    Raises:
      UserError: the data or a file is wrong, or a result would take the place of a file.
    """
    if not 2 <= len(detections) <= MOST_COMPARED:
        raise UserError(
            f"--compare names {len(detections)}, but must name 2 to {MOST_COMPARED} of them"
        )
    check_no_input_replaced(options.files(), *detections)
    dataset, origin, images = _open_objects(data, seed)
    candidates = [_read_detections(path, data, dataset, images) for path in detections]
    comparison = compare(
        [str(path) for path in detections],
        candidates,
        dataset.class_names,
        options.metrics[0],
        options.metric_iou_threshold,
    )
    if options.output:
        write_json(options.output, comparison)
    try:
        if options.report:
            from ssd_jax.evaluation.report import write_comparison

            folder = local_path(options.report)
            names, images_of = dataset.class_names, _pictures_of(dataset)
            write_comparison(folder, comparison, candidates, names, origin, images_of)
            logger.info("the report is %s", folder / "index.html")
    finally:  # the numbers are told, too, where the page cannot be made
        print(format_comparison(comparison))
    return comparison


def _open_objects(data: DataConfig, seed: int) -> tuple[Dataset, str, list[ImageResult]]:
    """The evaluation data, where it comes from, and its images without detections."""
    from ssd_jax.data.choice import open_evaluation_data
    from ssd_jax.data.evaluation_batches import read_objects
    from ssd_jax.data.problems import make_problems

    dataset, origin = open_evaluation_data(data, data.class_names, make_problems(data), seed=seed)
    images = [
        image_result(
            record.image_id,
            size,
            record.boxes,
            record.labels,
            record.difficult,
            record.crowd,
            record.area,
        )
        for record, size in read_objects(dataset)
    ]
    return dataset, origin, sort_results(images)


def _read_detections(
    path: str | Path, data: DataConfig, dataset: Dataset, images: Sequence[ImageResult]
) -> list[ImageResult]:
    return read_detections(
        local_path(path),
        images,
        dataset.class_names,
        dataset.category_ids,
        {found.image_id for found in dataset.problems.found},
        data.renamed_classes,
        dataset.merged_ids,
    )


def _pictures_of(dataset: Dataset) -> Callable[[Collection[str]], dict[str, np.ndarray]]:
    """Reads images of the data by their names."""
    from ssd_jax.data.evaluation_batches import read_images

    return functools.partial(read_images, dataset)


def _publish(
    results: Sequence[ImageResult],
    summary: dict[str, Any],
    about: dict[str, str],
    dataset: Dataset,
    options: EvaluationOptions,
) -> None:
    """Writes the numbers and a report where they are asked for, and prints the numbers."""
    if options.output:
        write_json(options.output, summary)
    try:
        if options.report:
            # Matplotlib and Jinja are not needed without a report.
            from ssd_jax.evaluation.report import write_report

            folder, images_of = local_path(options.report), _pictures_of(dataset)
            write_report(folder, results, dataset.class_names, summary, about, images_of)
            logger.info("the report is %s", folder / "index.html")
    finally:  # the numbers are told, too, where the page cannot be made
        print(format_table(summary))
