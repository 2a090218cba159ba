"""From a trained network, or a file of detections, to mAP, a report and a comparison."""

import functools
import json
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ssd_jax.config.schema import as_config
from ssd_jax.distributed import devices
from ssd_jax.errors import UserError
from ssd_jax.evaluation.comparison import MOST_COMPARED, compare, format_comparison
from ssd_jax.evaluation.detection_files import read_detections, write_detections
from ssd_jax.evaluation.report import write_comparison, write_report
from ssd_jax.evaluation.results import ImageResult, image_result, sort_results
from ssd_jax.evaluation.summary import METRICS, format_table, summarise
from ssd_jax.runs.evaluator import Evaluator
from ssd_jax.runs.trained import load_workdir

logger = logging.getLogger(__name__)


def evaluate(
    config: Any,
    workdir: str,
    *,
    checkpoint: int | None = None,
    metrics: Sequence[str] = METRICS,
    iou_threshold: float = 0.5,
    flip: bool = False,
    output: str = "",
    submission: str = "",
    report: str = "",
) -> None:
    """Evaluates a checkpoint of a work directory on `config.data.eval`.

    Args:
      config: the config of the run; `data.eval` may name other data, `detection` other thresholds.
      workdir: the work directory of the run.
      checkpoint: which step; the last one where None.
      metrics: of `METRICS`, the most important first.
      iou_threshold: see `summarise`.
      flip: see `make_predict_step`.
      output: a JSON file to write the numbers to.
      submission: a folder to write the detections to, in the forms of VOC and COCO.
      report: a folder to write a page about the results to.

    Raises:
      UserError: the work directory holds no such run, or config or data are wrong.
    """
    config = as_config(config)
    trained = load_workdir(Path(workdir), checkpoint, config)
    named = config.data.class_names
    if named and named != trained.class_names:
        raise UserError(
            f"config.data.classes names {len(named)} classes ({', '.join(named)}), but {workdir} "
            f"was trained with {len(trained.class_names)} ({', '.join(trained.class_names)}): "
            "leave it empty"
        )
    evaluator = Evaluator(config, trained.network, trained.class_names, flip, Path(workdir))
    results, _ = evaluator(devices.replicate(trained.variables))
    summary = evaluator.summarise(results, metrics, iou_threshold)
    if not devices.is_main_process():
        return
    if submission:
        write_detections(results, trained.class_names, trained.category_ids, Path(submission))
    about = {"run": workdir, "data": config.data.eval}
    _publish(results, trained.class_names, summary, about, evaluator.source, output, report)


def evaluate_file(
    source_spec: str,
    class_names: Sequence[str],
    detections: str,
    *,
    metrics: Sequence[str] = METRICS,
    iou_threshold: float = 0.5,
    on_error: str = "stop",
    max_error_fraction: float = 0.0,
    output: str = "",
    report: str = "",
) -> None:
    """Evaluates detections that lie in a file, whoever made them.

    Args:
      source_spec: the data they were made on.
      class_names: its classes; those of the data where empty.
      detections: see `read_detections`.
      metrics: of `METRICS`, the most important first.
      iou_threshold: see `summarise`.
      on_error: "stop" or "skip", at damaged pictures of the data.
      max_error_fraction: how many may be left out.
      output: a JSON file to write the numbers to.
      report: a folder to write a page about the results to.

    Raises:
      UserError: the data or the file is wrong.
    """
    source, images = _open_objects(source_spec, class_names, on_error, max_error_fraction)
    results = _read_detections(detections, source, images)
    summary = summarise(results, source.class_names, metrics, iou_threshold)
    about = {"run": detections, "data": source_spec}
    _publish(results, source.class_names, summary, about, source, output, report)


def compare_files(
    source_spec: str,
    class_names: Sequence[str],
    detections: Sequence[str],
    *,
    metric: str = "voc07",
    iou_threshold: float = 0.5,
    on_error: str = "stop",
    max_error_fraction: float = 0.0,
    output: str = "",
    report: str = "",
) -> None:
    """Compares detections of several detectors on the same data, the first with each other.

    Args:
      source_spec: the data they were made on.
      class_names: its classes; those of the data where empty.
      detections: two or more, up to ten; see `read_detections`.
      metric: of `METRICS`.
      iou_threshold: see `summarise`.
      on_error: "stop" or "skip", at damaged pictures of the data.
      max_error_fraction: how many may be left out.
      output: a JSON file to write the numbers to.
      report: a folder to write a page about the differences to.

    Raises:
      UserError: the data or a file is wrong.
    """
    if not 2 <= len(detections) <= MOST_COMPARED:
        raise UserError(
            f"--compare names {len(detections)}, but must name 2 to {MOST_COMPARED} of them"
        )
    source, images = _open_objects(source_spec, class_names, on_error, max_error_fraction)
    candidates = [_read_detections(path, source, images) for path in detections]
    comparison = compare(detections, candidates, source.class_names, metric, iou_threshold)
    print(format_comparison(comparison))
    if output:
        Path(output).write_text(json.dumps(comparison, indent=2) + "\n")
    if report:
        from ssd_jax.data.pipeline import read_pictures

        pictures = functools.partial(read_pictures, source)
        write_comparison(
            Path(report), comparison, candidates, source.class_names, source_spec, pictures
        )
        logger.info("the report is %s", Path(report) / "index.html")


def _open_objects(
    spec: str, class_names: Sequence[str], on_error: str, max_error_fraction: float
) -> tuple[Any, list[ImageResult]]:
    """A source, and its images without detections."""
    from ssd_jax.data.pipeline import read_objects
    from ssd_jax.data.problems import Problems
    from ssd_jax.data.sources import open_source

    source = open_source(spec, class_names, Problems(on_error, max_error_fraction))
    images = [
        image_result(
            record["image_id"].decode(),
            (int(record["size"][0]), int(record["size"][1])),
            *(record[key] for key in ("boxes", "labels", "difficult", "crowd", "area")),
        )
        for record in read_objects(source)
    ]
    return source, sort_results(images)


def _read_detections(path: str, source: Any, images: Sequence[ImageResult]) -> list[ImageResult]:
    left_out = {found.image_id for found in source.problems.found}
    return read_detections(Path(path), images, source.class_names, source.category_ids, left_out)


def _publish(
    results: Sequence[ImageResult],
    class_names: Sequence[str],
    summary: dict[str, Any],
    about: dict[str, str],
    source: Any,
    output: str,
    report: str,
) -> None:
    """Prints the numbers, and writes them and a report where they are asked for."""
    from ssd_jax.data.pipeline import read_pictures

    print(format_table(summary))
    if output:
        Path(output).write_text(json.dumps(summary, indent=2) + "\n")
    if report:
        write_report(
            Path(report),
            results,
            class_names,
            summary,
            about,
            functools.partial(read_pictures, source),
        )
        logger.info("the report is %s", Path(report) / "index.html")
