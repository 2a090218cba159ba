"""Evaluates the mAP of a detector in any engine, with the images and thresholds of prediction."""

import logging
import time
from collections.abc import Iterator
from typing import Any

from ssd_jax.config.schema import DataConfig
from ssd_jax.data.datasets import Dataset
from ssd_jax.data.image_bytes import num_readers
from ssd_jax.data.records import Record
from ssd_jax.errors import UserError
from ssd_jax.evaluation.error_costs import with_error_costs
from ssd_jax.evaluation.results import ImageResult, image_result, sort_results
from ssd_jax.evaluation.submission import write_detections
from ssd_jax.evaluation.summary import summarise
from ssd_jax.images.opening import open_image
from ssd_jax.inference.detector import Detector, Prepared
from ssd_jax.progress import progress_bar
from ssd_jax.runs.evaluate import EvaluationOptions, check_classes, open_data, publish
from ssd_jax.storage.copies import sending
from ssd_jax.threads import map_ahead, pool_of_threads

logger = logging.getLogger(__name__)

BATCH_SIZE = 8


def evaluate_detector(
    detector: Detector,
    name: str,
    data: DataConfig,
    options: EvaluationOptions,
    *,
    seed: int = 0,
    workdir: str = "",
    batch_size: int = BATCH_SIZE,
) -> dict[str, Any]:
    """Evaluates a detector, and prints the numbers as a table.

    Args:
      detector: the detector; its score threshold is used.
      name: the name of the detector in messages and the report.
      data: the config of the data; `eval` names the evaluation data.
      options: the metrics and outputs.
      seed: `config.seed`, if the evaluation images are chosen from the training data.
      workdir: the work directory of its run, for the stored choice of evaluation images; "" without
        one.
      batch_size: the number of images in a batch.

    Returns:
      The numbers: see `summarise` and `with_error_costs`.

    Raises:
      UserError: the data is wrong, or has other classes.
    """
    check_classes(data.class_names, detector.class_names, name)
    dataset, origin = open_data(data, detector.class_names, seed, workdir)
    check_classes(dataset.class_names, detector.class_names, name)
    start = time.perf_counter()
    results = sort_results(list(_results(detector, dataset, batch_size)))
    seconds = time.perf_counter() - start
    logger.info("%d images in %.1f s, %.1f images/s", len(results), seconds, len(results) / seconds)
    names, ids = detector.class_names, detector.category_ids
    summary = summarise(results, names, options.metrics, options.metric_iou_threshold)
    summary = with_error_costs(summary, results, names)
    publish(results, summary, {"run": name, "data": origin}, dataset, options)
    if options.submission:  # last: it rejects names that its formats do not support
        with sending(options.submission) as place:
            write_detections(results, names, ids, place)
    return summary


def _results(detector: Detector, dataset: Dataset, batch_size: int) -> Iterator[ImageResult]:
    """Yields the result of each readable image."""

    def prepare(index: int) -> tuple[Record, Prepared | UserError]:
        record = dataset[index]
        try:
            prepared = detector.prepare(open_image(record.image, name="the image"))
        except UserError as error:
            return record, error
        return record, prepared._replace(image=record.path)  # the pixels are not kept

    def readable() -> Iterator[tuple[Record, Prepared]]:
        for record, prepared in map_ahead(pool, prepare, range(len(dataset)), ahead):
            if isinstance(prepared, UserError):
                error = str(prepared)
                dataset.problems.add_unreadable(record.path, record.image_id, error)
            else:
                yield record, prepared

    ahead, dropped = batch_size + num_readers(), 0
    with pool_of_threads(num_readers()) as pool:
        detected = detector.stream(readable(), batch_size)
        bar = progress_bar(detected, total=len(dataset), desc="evaluate", unit="image", leave=False)
        for record, found in bar:
            objects = (record.boxes, record.labels, record.difficult, record.crowd, record.area)
            yield image_result(record.image_id, found.size, *objects)._replace(
                boxes=found.boxes, scores=found.scores, labels=found.labels
            )
            dropped += record.dropped
    if dropped:
        logger.warning("evaluation data: %d boxes without area were left out", dropped)
