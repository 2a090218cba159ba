"""Runs a network over batches and collects what it detects."""

import collections
import contextlib
import logging
import time
from collections.abc import Callable, Iterable, Iterator

import jax
import jax.numpy as jnp
import numpy as np
from tqdm import tqdm

from ssd_jax.distributed import devices
from ssd_jax.detection.postprocess import Detections, best_detections, score_boxes
from ssd_jax.evaluation.results import ImageResult, image_result, pixel_scale, sort_results
from ssd_jax.models.network import Network, Variables

logger = logging.getLogger(__name__)


def make_predict_step(
    network: Network,
    *,
    score_threshold: float,
    iou_threshold: float,
    boxes_per_class: int,
    detections_per_image: int,
    flip: bool = False,
) -> Callable[[tuple[Variables, Variables], jax.Array], Detections]:
    """Makes `predict((parameters, batch_stats), images)`: pictures to detections, on the device.

    Images are `[batch, size, size, 3]` uint8 RGB.

    Args:
      network: what is run.
      score_threshold: see `detect`.
      iou_threshold: see `detect`.
      boxes_per_class: see `detect`.
      detections_per_image: see `detect`.
      flip: whether the mirrored picture is looked at too; boxes of both enter suppression.
    """
    default_boxes = network.default_boxes()

    def boxes_and_scores(variables, images):
        (offsets, logits), _ = network.apply(*variables, network.normalise(images), train=False)
        return score_boxes(offsets, logits, default_boxes)

    def predict(variables: tuple[Variables, Variables], images: jax.Array) -> Detections:
        boxes, scores = boxes_and_scores(variables, images)
        if flip:
            mirrored, mirrored_scores = boxes_and_scores(variables, images[:, :, ::-1])
            x_min, y_min, x_max, y_max = jnp.split(mirrored, 4, axis=-1)
            mirrored = jnp.concatenate([1 - x_max, y_min, 1 - x_min, y_max], axis=-1)
            boxes = jnp.concatenate([boxes, mirrored], axis=1)
            scores = jnp.concatenate([scores, mirrored_scores], axis=2)
        return best_detections(
            boxes, scores, score_threshold, iou_threshold, boxes_per_class, detections_per_image
        )

    return predict


class Stopwatch:
    """Where the time of an evaluation goes, in seconds by name."""

    def __init__(self):
        self.seconds = collections.Counter()

    @contextlib.contextmanager
    def measure(self, name: str) -> Iterator[None]:
        """Adds the time that the block takes."""
        start = time.perf_counter()
        yield
        self.seconds[name] += time.perf_counter() - start

    def describe(self, num_images: int) -> str:
        """Speed and shares in words; `num_images` were seen since the start."""
        total = sum(self.seconds.values())
        running = self.seconds["input"] + self.seconds["network"]
        parts = [f"{num_images / running:.1f} images/s"] if num_images and running else []
        parts += [f"{name} {seconds / total:.0%}" for name, seconds in self.seconds.items()]
        return ", ".join(parts)


def run_detector(
    predict: Callable[[tuple[Variables, Variables], jax.Array], Detections],
    variables: tuple[Variables, Variables],
    batches: Iterable[dict[str, np.ndarray]],
    num_batches: int,
    stopwatch: Stopwatch,
    num_pictures: int = 0,
    after_batch: Callable[[], None] = lambda: None,
) -> tuple[list[ImageResult], dict[str, np.ndarray]]:
    """Detects on all images of all processes.

    Args:
      predict: a predict step under `devices.pmap_predict`.
      variables: parameters and batch statistics.
      batches: this process's share, from `data.pipeline.eval_batches`.
      num_batches: how many batches there are.
      stopwatch: is told how long the first batch took ("start", where things are compiled), and
        for the others how long this process waited for "input" and "network".
      num_pictures: how many pictures to return, for drawing.
      after_batch: called after every batch; may raise, to end early.

    Returns:
      One result per image, in the order of their names, on every process the same; and by name the
      pictures `[size, size, 3] uint8` of this process's first images.
    """
    results, pictures, dropped = [], {}, 0
    progress = tqdm(
        total=num_batches,
        desc="evaluate",
        unit="batch",
        leave=False,
        dynamic_ncols=True,
        disable=not devices.is_main_process(),
    )
    with progress:
        for batch, detections in _one_ahead(predict, variables, batches, stopwatch):
            results += _image_results(batch, detections)
            for i in np.flatnonzero(batch["mask"])[: num_pictures - len(pictures)]:
                pictures[batch["image_id"][i].decode()] = batch["image"][i]
            dropped += int(batch["dropped"].sum())
            progress.update()
            after_batch()
            later_images = (progress.n - 1) * len(batch["image"]) * devices.process_count()
            progress.set_postfix_str(stopwatch.describe(later_images), False)
    if dropped:
        logger.warning("evaluation data: %d boxes without area were left out", dropped)
    everything = [result for part in devices.gather_from_processes(results) for result in part]
    return sort_results(everything), pictures


def _one_ahead(
    predict: Callable,
    variables: tuple[Variables, Variables],
    batches: Iterable[dict[str, np.ndarray]],
    stopwatch: Stopwatch,
) -> Iterator[tuple[dict[str, np.ndarray], Detections]]:
    """Batches with their detections on the host; the device works on the next one meanwhile."""
    batches = iter(batches)
    with stopwatch.measure("start"):
        batch = next(batches)
        waiting = (batch, predict(variables, devices.shard(batch["image"])))
        jax.block_until_ready(waiting[1])
    while waiting:
        with stopwatch.measure("input"):
            batch = next(batches, None)
        with stopwatch.measure("network"):
            running = batch and (batch, predict(variables, devices.shard(batch["image"])))
            detections = devices.unshard(waiting[1])
        yield waiting[0], detections
        waiting = running


def _image_results(batch: dict[str, np.ndarray], detections: Detections) -> list[ImageResult]:
    results = []
    for i in np.flatnonzero(batch["mask"]):
        real, found = batch["labels"][i] > 0, detections.labels[i] > 0
        size = (int(batch["size"][i][0]), int(batch["size"][i][1]))
        image = image_result(
            batch["image_id"][i].decode(),
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
