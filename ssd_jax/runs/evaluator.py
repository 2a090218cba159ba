"""Runs a network over batches and collects its detections."""

import contextlib
import functools
import logging
import operator
import os
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from ssd_jax.config.schema import Config, LossConfig
from ssd_jax.data.datasets import Dataset
from ssd_jax.data.records import NamedImage
from ssd_jax.detection.postprocess import Detections
from ssd_jax.distributed import devices, exchange
from ssd_jax.errors import counted
from ssd_jax.evaluation.metric import IOU_THRESHOLD
from ssd_jax.evaluation.results import (
    ImageResult,
    image_result,
    pack_results,
    pixel_scale,
    sort_results,
    unpack_results,
)
from ssd_jax.evaluation.summary import summarise
from ssd_jax.models.network import Network, Variables
from ssd_jax.models.prediction import make_predict_step
from ssd_jax.progress import progress_bar
from ssd_jax.runs.batch_memory import batch_memory
from ssd_jax.training.detection_loss import make_evaluation_step

logger = logging.getLogger(__name__)

Batch = dict[str, np.ndarray]
# The outputs of a device for its share of a batch: detections, or detections and losses `[batch,
# 2]`.
Outputs = Detections | tuple[Detections, jax.Array]
Predict = Callable[[tuple[Variables, Variables], Any], Outputs]


class Evaluated(NamedTuple):
    """The results of an evaluation.

    Attributes:
      results: one per image, in the order of their names, the same in every process.
      pictures: the first images of this process, as inputs of the network, by name in the results.
      loss: the mean over all images, without augmentation; None if it is not measured or there is
        no object.
    """

    results: list[ImageResult]
    pictures: dict[str, NamedImage]
    loss: float | None


# The parts of an evaluation, in words.
PARTS = (
    ("first batch", "for the first batch, compilation included"),
    ("input", "waiting for images"),
    ("network", "in the network"),
    ("metric", "computing the mAP"),
)


class Stopwatch:
    """Measures the seconds of the parts of an evaluation, by name."""

    def __init__(self):
        self.seconds: dict[str, float] = {}

    @contextlib.contextmanager
    def measure(self, name: str) -> Iterator[None]:
        """Adds the time that the block takes."""
        start = time.perf_counter()
        yield
        self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - start

    @property
    def total(self) -> float:
        """The seconds of all parts."""
        return sum(self.seconds.values())

    def describe_speed(self, later_images: int) -> str:
        """The images per second without the first batch, `later_images`; "" if there are none."""
        running = self.seconds.get("input", 0.0) + self.seconds.get("network", 0.0)
        return f"{later_images / running:.1f} images/s" if later_images and running else ""

    def describe(self, later_images: int) -> str:
        """Describes speed and parts, without the first batch; "" if there is no other.

        Args:
          later_images: the number of images that came after the first batch.
        """
        speed = self.describe_speed(later_images)
        if not speed:
            return ""
        parts = [
            f"{self.seconds[name]:.1f} s {told}"
            for name, told in PARTS
            if self.seconds.get(name, 0.0) >= 0.05
        ]
        return f"{', '.join(parts)}; {speed} after the first batch"


def run_detector(
    predict: Predict,
    variables: tuple[Variables, Variables],
    batches: Iterable[Batch],
    num_batches: int,
    stopwatch: Stopwatch,
    num_pictures: int = 0,
    after_batch: Callable[[], None] = lambda: None,
    inputs: Callable[[Batch], Any] = operator.itemgetter("image"),
) -> Evaluated:
    """Detects on all images of all processes.

    Args:
      predict: a predict step, or an evaluation step, under `devices.pmap_predict`.
      variables: parameters and batch statistics.
      batches: this process's share, from `data.evaluation_batches`.
      num_batches: the number of batches.
      stopwatch: receives the time of the "first batch", which includes compilation, and for later
        batches the time of waiting for "input" and "network".
      num_pictures: the number of images to return, for drawing.
      after_batch: called after every batch; may raise an exception to end early.
      inputs: selects the inputs of the step from a batch.
    """
    results, pictures, dropped, losses = [], {}, 0, np.zeros(2)
    progress = progress_bar(
        total=num_batches,
        desc="evaluate",
        unit="batch",
        leave=False,
        disable=not devices.is_main_process(),
    )
    with progress:
        for batch, outputs in _one_ahead(predict, variables, batches, stopwatch, inputs):
            if isinstance(outputs, Detections):
                detections = outputs
            else:
                detections, image_losses = outputs
                losses += np.sum(image_losses, axis=0, where=batch["mask"][:, None])
            results += _image_results(batch, detections)
            names, files = batch["image_id"].tolist(), batch["file"].tolist()
            for i in np.flatnonzero(batch["mask"])[: num_pictures - len(pictures)].tolist():
                name = os.fsdecode(names[i])
                pictures[name] = NamedImage.of(os.fsdecode(files[i]), name, batch["image"][i])
            dropped += int(batch["dropped"].sum())
            progress.update()
            after_batch()
            later_images = (progress.n - 1) * len(batch["image"]) * devices.process_count()
            progress.set_postfix_str(stopwatch.describe_speed(later_images), False)
    if dropped:
        logger.warning("evaluation data: %d boxes without area were left out", dropped)
    return Evaluated(sort_results(_of_all_processes(results)), pictures, _mean_loss(losses))


def _mean_loss(losses: np.ndarray) -> float | None:
    """The loss per positive of all processes, from this process's sums `[2]` of both."""
    total, positives = np.sum(exchange.gather_from_processes(losses.tolist()), axis=0)
    return float(total / positives) if positives else None


def _of_all_processes(results: list[ImageResult]) -> list[ImageResult]:
    if devices.process_count() == 1:
        return results
    shares = exchange.gather_arrays(pack_results(results))
    return [result for share in shares for result in unpack_results(share)]


def _one_ahead(
    predict: Predict,
    variables: tuple[Variables, Variables],
    batches: Iterable[Batch],
    stopwatch: Stopwatch,
    inputs: Callable[[Batch], Any],
) -> Iterator[tuple[Batch, Outputs]]:
    """Yields batches with their outputs on the host, while the device processes the next one."""
    batches = iter(batches)
    with stopwatch.measure("first batch"):
        batch = next(batches)
        waiting = predict(variables, devices.shard(inputs(batch)))
        jax.block_until_ready(waiting)
    following: Batch | None = batch
    while following is not None:
        with stopwatch.measure("input"):
            following = next(batches, None)
        with stopwatch.measure("network"):
            running = None
            if following is not None:
                running = predict(variables, devices.shard(inputs(following)))
            outputs = devices.unshard(waiting)
        yield batch, outputs
        if following is not None:
            batch, waiting = following, running


def _image_results(batch: Batch, detections: Detections) -> list[ImageResult]:
    results = []
    for i in np.flatnonzero(batch["mask"]).tolist():
        real, found = batch["labels"][i] > 0, detections.labels[i] > 0
        size = (int(batch["size"][i][0]), int(batch["size"][i][1]))
        image = image_result(
            os.fsdecode(batch["image_id"][i]),
            size,
            batch["boxes"][i][real],
            batch["labels"][i][real],
            batch["difficult"][i][real],
            batch["crowd"][i][real],
            batch["area"][i][real],
        )
        results.append(
            image._replace(
                boxes=np.clip(detections.boxes[i][found], 0, 1) * pixel_scale(size),
                scores=detections.scores[i][found],
                labels=detections.labels[i][found],
            )
        )
    return results


def with_objects(most: int, batch: Batch) -> Batch:
    """The images of a batch with their `most` largest objects, as in training.

    The arrays always have the same shape, so that nothing is compiled again.
    """
    learned = (batch["labels"] > 0) & ~batch["crowd"] & batch["mask"][:, None]
    sides = batch["boxes"][..., 2:] - batch["boxes"][..., :2]
    largest_first = np.argsort(np.where(learned, -np.prod(sides, axis=-1), 1), stable=True)
    chosen = largest_first[:, :most]
    labels = np.take_along_axis(np.where(learned, batch["labels"], 0), chosen, axis=1)
    boxes = np.take_along_axis(batch["boxes"], chosen[..., None], axis=1)
    missing = ((0, 0), (0, most - chosen.shape[1]))
    return {
        "image": batch["image"],
        "boxes": np.pad(np.where(labels[..., None] > 0, boxes, 0), (*missing, (0, 0))),
        "labels": np.pad(labels, missing),
    }


class Evaluator:
    """Evaluates a network repeatedly; it is compiled once.

    Attributes:
      dataset: the data.
      network: the evaluated network.
    """

    def __init__(
        self,
        config: Config,
        network: Network,
        dataset: Dataset,
        flip: bool = False,
        loss: LossConfig | None = None,
    ):
        """Prepares the evaluation of a network.

        Args:
          config: the size of images and batches, and `detection`.
          network: the network to evaluate.
          dataset: the images, with the classes that the network was trained on.
          flip: see `make_predict_step`.
          loss: the loss to measure as well; None for none.
        """
        self.dataset = dataset
        self._image_size = config.model.image_size
        self._batch_size = devices.per_process_batch_size(devices.round_up(config.batch_size))
        self.network = network
        self._stopwatch = Stopwatch()
        self._predict: Predict
        if loss is None:
            self._inputs = operator.itemgetter("image")
            step = make_predict_step(network, config.detection, flip)
            self._predict = devices.pmap_predict(step)
        else:
            self._inputs = functools.partial(with_objects, config.data.max_objects)
            step = make_evaluation_step(network, config.replace({"loss": loss}))
            self._predict = devices.pmap_predict(step)

    def __call__(
        self,
        variables: tuple[Variables, Variables],
        num_pictures: int = 0,
        after_batch: Callable[[], None] = lambda: None,
    ) -> Evaluated:
        """Detects on all images; see `run_detector`."""
        from ssd_jax.data.evaluation_batches import evaluation_batches, num_evaluation_batches

        self._stopwatch.seconds.clear()
        process_count = devices.process_count()
        batches = evaluation_batches(
            self.dataset,
            image_size=self._image_size,
            batch_size=self._batch_size,
            process_index=devices.process_index(),
            process_count=process_count,
        )
        num_batches = num_evaluation_batches(self.dataset, self._batch_size, process_count)
        with batch_memory(self.network, self._batch_size):
            return run_detector(
                self._predict,
                variables,
                batches,
                num_batches,
                self._stopwatch,
                num_pictures,
                after_batch,
                self._inputs,
            )

    def summarise(
        self,
        results: Sequence[ImageResult],
        metrics: Sequence[str],
        metric_iou_threshold: float = IOU_THRESHOLD,
    ) -> dict[str, Any]:
        """Computes the numbers of these results, and logs the time of each part."""
        with self._stopwatch.measure("metric"):
            summary = summarise(results, self.dataset.class_names, metrics, metric_iou_threshold)
        if devices.is_main_process():
            first_batch = self._batch_size * devices.process_count()
            shares = self._stopwatch.describe(max(0, len(results) - first_batch))
            logger.info(
                "%s evaluated in %.1f s%s",
                counted(len(results), "image"),
                self._stopwatch.total,
                f": {shares}" if shares else "",
            )
        return summary
