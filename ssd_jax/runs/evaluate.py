"""Evaluates a trained network or files of detections: mAP, a report and a comparison."""

import dataclasses
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from ml_collections import ConfigDict

from ssd_jax.config.schema import Config, DataConfig, as_config
from ssd_jax.data.datasets import Dataset
from ssd_jax.data.records import caption_name
from ssd_jax.distributed import devices
from ssd_jax.errors import UserError
from ssd_jax.evaluation.comparison import MOST_COMPARED, compare, format_comparison
from ssd_jax.evaluation.detection_files import read_detections
from ssd_jax.evaluation.error_costs import format_error_costs, with_error_costs
from ssd_jax.evaluation.metric import IOU_THRESHOLD
from ssd_jax.evaluation.metrics import METRICS, check_options
from ssd_jax.evaluation.results import ImageResult, image_result, sort_results
from ssd_jax.evaluation.submission import write_detections
from ssd_jax.evaluation.summary import format_table, summarise
from ssd_jax.interop.trained import names_and_ids
from ssd_jax.runs.agreement import (
    check_same_data,
    check_same_start,
    check_same_state,
    shared_cut,
)
from ssd_jax.runs.evaluator import Evaluator
from ssd_jax.runs.report import images_of, write_page
from ssd_jax.runs.stores import run_copy
from ssd_jax.runs.trained import chosen_step, load_workdir
from ssd_jax.runs.which_checkpoint import WhichCheckpoint
from ssd_jax.runs.workdir import read_classes
from ssd_jax.storage.clouds import is_remote
from ssd_jax.storage.copies import local_copy, sending
from ssd_jax.storage.files import AnyPath, write_json
from ssd_jax.storage.outputs import (
    REPORT_MARK,
    check_json_file,
    check_no_input_replaced,
    check_output_files,
    check_output_folder,
    check_outputs,
)

logger = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class EvaluationOptions:
    """Options of an evaluation: metrics, and files to write.

    Attributes:
      metrics: of `METRICS`, the most important first. A comparison uses the first.
      metric_iou_threshold: IoU that a match must exceed by VOC's rules.
      output: a JSON file for the numbers; "" for none.
      report: a folder for a page about the results; "" for none.
      submission: a folder for the detections in the formats of VOC and COCO; "" for none.
    """

    metrics: Sequence[str] = tuple(METRICS)
    metric_iou_threshold: float = IOU_THRESHOLD
    output: str | Path = ""
    report: str | Path = ""
    submission: str | Path = ""

    def __post_init__(self) -> None:
        # Checked first: an evaluation may take an hour.
        check_options(self.metrics, self.metric_iou_threshold)
        check_output_files(self.output, also_remote=True)
        check_json_file(self.output)
        for folder, mark in ((self.report, REPORT_MARK), (self.submission, "")):
            # A folder cannot be an output file as well.
            check_outputs(self.output, folder, also_remote=True)
            check_output_folder(folder, mark)
        check_outputs(*self.files(), also_remote=True)

    def files(self) -> list[AnyPath]:
        """The files to write, or the last one of a folder."""
        named = ((self.output, ""), (self.report, "index.html"))
        named += ((self.submission, "detections.json"),)
        return [place if is_remote(place) else Path(place, file) for place, file in named if place]


def evaluate(
    config: Config | ConfigDict,
    workdir: str | Path,
    *,
    checkpoint: WhichCheckpoint = "best",
    flip: bool = False,
    options: EvaluationOptions = EvaluationOptions(),
) -> dict[str, Any]:
    """Evaluates a checkpoint of a work directory on `config.data.eval`.

    The main process prints the numbers as a table.

    Args:
      config: the config of the run; `data.eval` may name other data, `detection` other thresholds.
      workdir: the work directory of the run.
      checkpoint: see `load_workdir`.
      flip: see `make_predict_step`.
      options: the metrics, and the files to write.

    Returns:
      The numbers: see `summarise` and `with_error_costs`.

    Raises:
      UserError: the work directory holds no such run, or config or data are wrong.
    """
    from ssd_jax.data.choice import open_evaluation_data
    from ssd_jax.data.problems import make_problems

    config, folder = as_config(config), run_copy(workdir)
    check_same_start(config, checkpoint=checkpoint, flip=flip, metric=list(options.metrics))
    trained = load_workdir(folder, checkpoint, config)
    check_classes(config.data.class_names, trained.class_names, workdir)
    problems = make_problems(config.data, folder, devices.is_main_process())
    stored, seed = shared_cut(folder), _seed_of_cut(folder, config.seed)
    dataset, origin = open_evaluation_data(config.data, trained.class_names, problems, stored, seed)
    check_same_data(None, dataset)
    check_same_state(trained.variables)
    evaluator = Evaluator(config, trained.network, dataset, flip)
    results = evaluator(devices.replicate(trained.variables)).results
    summary = evaluator.summarise(results, options.metrics, options.metric_iou_threshold)
    summary = with_error_costs(summary, results, trained.class_names)
    if devices.is_main_process():
        about = {"run": f"{workdir}, step {chosen_step(folder, checkpoint)}", "data": origin}
        publish(results, summary, about, dataset, options, config.model.image_size)
        if options.submission:  # last, because it fails if the format does not allow a name
            with sending(options.submission) as place:
                write_detections(results, trained.class_names, trained.category_ids, place)
    return summary


def check_classes(named: Sequence[str], trained: Sequence[str], workdir: str | Path) -> None:
    """Raises a `UserError` if the classes of a config are not those of the run."""
    if named and tuple(named) != tuple(trained):
        raise UserError(
            f"config.data.classes names {len(named)} classes ({', '.join(named)}), but {workdir} "
            f"was trained with {len(trained)} ({', '.join(trained)}): leave it empty"
        )


def _seed_of_cut(folder: Path, seed: int) -> int | None:
    """The seed of a split if the work directory records none; None if no split is allowed.

    A run records its split, so a run without one was trained on all of its images and allows no
    split. Imported weights were trained elsewhere.
    """
    return seed if (folder / "imported.json").is_file() else None


def evaluate_file(
    data: DataConfig,
    detections: str | Path,
    options: EvaluationOptions = EvaluationOptions(),
    seed: int = 0,
    workdir: str | Path = "",
) -> dict[str, Any]:
    """Evaluates detections in a file, from any detector, and prints the numbers.

    Args:
      data: `eval` names their data, `classes` its classes, and `on_error` the reaction to
        damaged images.
      detections: see `read_detections`.
      options: the metrics, and the files to write.
      seed: `config.seed`, for evaluation data that is split from training data.
      workdir: a run with these classes; its evaluation split, if any, is used; "" for none.

    Returns:
      The numbers: see `summarise` and `with_error_costs`.

    Raises:
      UserError: the data or the file is wrong, or a result would replace the file.
    """
    check_no_input_replaced(options.files(), detections)
    truth = _open_truth(data, seed, workdir)
    dataset, results = truth.dataset, _read_detections(detections, data, truth)
    summary = summarise(results, dataset.class_names, options.metrics, options.metric_iou_threshold)
    summary = with_error_costs(summary, results, dataset.class_names)
    publish(
        results,
        summary,
        {"run": str(detections), "data": truth.origin},
        dataset,
        options,
    )
    return summary


def compare_files(
    data: DataConfig,
    detections: Sequence[str | Path],
    options: EvaluationOptions = EvaluationOptions(),
    seed: int = 0,
    workdir: str | Path = "",
) -> dict[str, Any]:
    """Compares detections of several detectors on the same data, each with the first.

    Args:
      data: see `evaluate_file`.
      detections: two or more, up to ten; see `read_detections`.
      options: the metrics, and the files to write.
      seed: see `evaluate_file`.
      workdir: see `evaluate_file`.

    Returns:
      The comparison: see `compare`.

    Raises:
      UserError: the data or a file is wrong, or a result would replace a file.
    """
    if not 2 <= len(detections) <= MOST_COMPARED:
        raise UserError(
            f"--compare names {len(detections)}, but must name 2 to {MOST_COMPARED} of them"
        )
    check_no_input_replaced(options.files(), *detections)
    truth = _open_truth(data, seed, workdir)
    dataset = truth.dataset
    candidates = [_read_detections(path, data, truth) for path in detections]
    comparison = compare(
        [str(path) for path in detections],
        candidates,
        dataset.class_names,
        options.metrics[0],
        options.metric_iou_threshold,
        {name: caption_name(path, name) for name, path in truth.paths.items()},
    )
    if options.output:
        with sending(options.output) as file:
            write_json(file, comparison)
    try:
        if options.report:
            from ssd_jax.evaluation.report import write_comparison

            names, read = dataset.class_names, images_of(dataset)
            with sending(options.report) as folder:
                write_comparison(folder, comparison, candidates, names, truth.origin, read)
            logger.info("the report is %s", folder / "index.html")
    finally:  # the numbers are printed even if the page cannot be made
        print(format_comparison(comparison))
    return comparison


class _Truth(NamedTuple):
    """The ground truth for detections.

    Attributes:
      dataset: the evaluation data.
      origin: a description of its source.
      images: its images, without detections.
      paths: the files of the images by their names; "" for an image without its own file.
    """

    dataset: Dataset
    origin: str
    images: list[ImageResult]
    paths: dict[str, str]


def open_data(
    data: DataConfig, class_names: Sequence[str], seed: int, workdir: str | Path
) -> tuple[Dataset, str]:
    """Opens evaluation data for detections that are not from a run; returns it with its origin.

    Args:
      data: names it.
      class_names: its classes; empty = those of the data.
      seed: see `evaluate_file`.
      workdir: of a run; its classes and its split are used; "" for none.

    Raises:
      UserError: the data is wrong.
    """
    from ssd_jax.data.choice import open_evaluation_data
    from ssd_jax.data.cut import read_cut
    from ssd_jax.data.problems import make_problems

    problems = make_problems(data)
    if not workdir:
        return open_evaluation_data(data, class_names, problems, seed=seed)
    folder = run_copy(workdir)
    names, ids = names_and_ids(read_classes(folder))
    check_classes(data.class_names, names, workdir)
    dataset, origin = open_evaluation_data(
        data, names, problems, read_cut(folder), _seed_of_cut(folder, seed)
    )
    return Dataset(dataset.parts, names, ids, problems, dataset.merged_ids), origin


def _open_truth(data: DataConfig, seed: int, workdir: str | Path) -> _Truth:
    """The evaluation data, with its objects."""
    from ssd_jax.data.evaluation_batches import read_objects

    dataset, origin = open_data(data, data.class_names, seed, workdir)
    images, paths = [], {}
    for record, size in read_objects(dataset):
        objects = (record.boxes, record.labels, record.difficult, record.crowd, record.area)
        images.append(image_result(record.image_id, size, *objects))
        paths[record.image_id] = record.path
    return _Truth(dataset, origin, sort_results(images), paths)


def _read_detections(path: str | Path, data: DataConfig, truth: _Truth) -> list[ImageResult]:
    dataset = truth.dataset
    left_out = {found.image_id: found.file for found in dataset.problems.found}
    return read_detections(
        local_copy(path),
        truth.images,
        dataset.class_names,
        dataset.category_ids,
        left_out.keys(),
        data.renamed_classes,
        dataset.merged_ids,
        {**left_out, **truth.paths},
    )


def publish(
    results: Sequence[ImageResult],
    summary: dict[str, Any],
    about: dict[str, str],
    dataset: Dataset,
    options: EvaluationOptions,
    image_size: int | None = None,
) -> None:
    """Writes the numbers and a report if requested, and prints the numbers.

    Args:
      results: one per image.
      summary: the numbers.
      about: the names of the evaluated run (`run`) and the data (`data`).
      dataset: the data.
      options: the files to write.
      image_size: side of the network's input, in pixels; None if unknown.
    """
    if options.output:
        with sending(options.output) as file:
            write_json(file, summary)
    try:
        if options.report:
            with sending(options.report) as folder:
                write_page(folder, results, summary, about, dataset, image_size)
    finally:  # the numbers are printed even if the page cannot be made
        print("\n\n".join(filter(None, [format_table(summary), format_error_costs(summary)])))
