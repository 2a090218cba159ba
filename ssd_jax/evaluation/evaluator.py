"""Runs a network over batches and collects what it detects."""

import logging
from collections.abc import Callable, Iterable, Iterator

import jax
import numpy as np
from tqdm import tqdm

from ssd_jax import parallel
from ssd_jax.detection.postprocess import Detections, detect
from ssd_jax.evaluation.voc import ImageResult
from ssd_jax.models.network import Network, Variables

logger = logging.getLogger(__name__)


def make_predict_step(
    network: Network,
    *,
    score_threshold: float,
    iou_threshold: float,
    boxes_per_class: int,
    detections_per_image: int,
) -> Callable[[tuple[Variables, Variables], jax.Array], Detections]:
    """Makes `predict((parameters, batch_stats), images)`: pictures to detections, on the device.

    Images are `[batch, size, size, 3]` uint8 RGB; see `detect` for the other arguments.
    """
    default_boxes = network.default_boxes()

    def predict(variables: tuple[Variables, Variables], images: jax.Array) -> Detections:
        (offsets, logits), _ = network.apply(*variables, network.normalise(images), train=False)
        return detect(
            offsets,
            logits,
            default_boxes,
            score_threshold,
            iou_threshold,
            boxes_per_class,
            detections_per_image,
        )

    return predict


def run_detector(
    predict: Callable[[tuple[Variables, Variables], jax.Array], Detections],
    variables: tuple[Variables, Variables],
    batches: Iterable[dict[str, np.ndarray]],
    num_batches: int,
    num_pictures: int = 0,
) -> tuple[list[ImageResult], list[np.ndarray]]:
    """Detects on all images of all processes.

    Args:
      predict: a predict step under `parallel.pmap_predict`.
      variables: parameters and batch statistics.
      batches: this process's share, from `data.pipeline.eval_batches`.
      num_batches: how many batches there are.
      num_pictures: how many pictures to return, for drawing.

    Returns:
      One result per image, on every process the same; and the pictures `[size, size, 3] uint8` of
      this process's first images, which on the main process belong to the first results.
    """
    results, pictures, dropped = [], [], 0
    progress = tqdm(
        total=num_batches,
        desc="evaluate",
        unit="batch",
        leave=False,
        disable=not parallel.is_main_process(),
    )
    with progress:
        for batch, detections in _one_ahead(predict, variables, batches):
            results += _image_results(batch, detections)
            pictures += list(batch["image"][batch["mask"]][: num_pictures - len(pictures)])
            dropped += int(batch["dropped"].sum())
            progress.update()
    if dropped:
        logger.warning("evaluation data: %d boxes without area were left out", dropped)
    everything = [result for part in parallel.gather_from_processes(results) for result in part]
    return everything, pictures


def _one_ahead(
    predict: Callable, variables: tuple[Variables, Variables], batches: Iterable
) -> Iterator[tuple[dict[str, np.ndarray], Detections]]:
    """Batches with their detections on the host; the device works on the next one meanwhile."""
    waiting = None
    for batch in batches:
        running = (batch, predict(variables, parallel.shard(batch["image"])))
        if waiting:
            yield waiting[0], parallel.unshard(waiting[1])
        waiting = running
    if waiting:
        yield waiting[0], parallel.unshard(waiting[1])


def _image_results(batch: dict[str, np.ndarray], detections: Detections) -> list[ImageResult]:
    results = []
    for i in np.flatnonzero(batch["mask"]):
        height, width = batch["size"][i]
        to_pixels = np.array([width, height, width, height], np.float64)
        real, found = batch["labels"][i] > 0, detections.labels[i] > 0
        results.append(
            ImageResult(
                image_id=batch["image_id"][i].decode(),
                size=(int(height), int(width)),
                # Thousandths of a pixel give the numbers of the annotation file back exactly.
                true_boxes=np.round(batch["boxes"][i][real] * to_pixels, 3),
                true_labels=batch["labels"][i][real],
                difficult=batch["difficult"][i][real],
                boxes=np.clip(detections.boxes[i][found], 0, 1) * to_pixels,
                scores=detections.scores[i][found],
                labels=detections.labels[i][found],
            )
        )
    return results
