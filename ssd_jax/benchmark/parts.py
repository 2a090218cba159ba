"""The time of each part of the train step and of detection, and its share of the whole.

Each part is compiled and called alone, so it reads its inputs from memory and writes its outputs to
memory. Inside the step it takes less time, because XLA fuses parts.
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from ssd_jax.benchmark.network import (
    NUM_CLASSES,
    chosen_precisions,
    measure,
    random_batch,
    with_precision,
)
from ssd_jax.benchmark.timing import time_calls
from ssd_jax.config.schema import Config, as_config
from ssd_jax.detection.losses import hard_negatives, multibox_loss, softmax_cross_entropy
from ssd_jax.detection.matcher import match_targets
from ssd_jax.detection.postprocess import score_boxes
from ssd_jax.distributed import devices
from ssd_jax.errors import UserError
from ssd_jax.models.network import Network, Variables, build_network
from ssd_jax.models.prediction import final_detections
from ssd_jax.training.augmentation import augment, image_keys
from ssd_jax.training.detection_loss import Batch


def benchmark_parts(
    config: Config | ConfigDict,
    precisions: Sequence[str] = (),
    batch_size: int = 8,
    seconds: float = 4.0,
) -> list[dict[str, Any]]:
    """Measures parts of the step and the whole, with random images, objects and weights.

    Args:
      config: the network and its training.
      precisions: some of `PRECISIONS`; by default all that differ on the device.
      batch_size: images per device.
      seconds: the time of each measurement.

    Returns:
      Rows with `precision`, `batch_size`, `part`, `of` ("train" or "predict"), `milliseconds`
      (median) and `share` of the whole.

    Raises:
      UserError: the config or a value is wrong, or a batch does not fit into the memory.
    """
    config = as_config(config)
    rows = []
    for precision in chosen_precisions(precisions):
        own = with_precision(config, precision)
        parts = _parts(own, batch_size)
        for mode in ("train", "predict"):
            whole = measure(own, mode, batch_size * devices.num_devices(), seconds)
            if whole is None:
                raise UserError(f"{batch_size} images do not fit into memory: try --batch_sizes=1")
            total = whole["step_ms_median"]
            times = {
                name: 1e3 * time_calls(call, seconds / 2).median
                for name, call in parts[mode].items()
            }
            for name, time in (times | {"the whole": total}).items():
                rows.append(
                    {
                        "precision": precision,
                        "batch_size": batch_size,
                        "part": name,
                        "of": mode,
                        "milliseconds": time,
                        "share": time / total,
                    }
                )
    return rows


def _parts(config: Config, batch_size: int) -> dict[str, dict[str, Callable[[], Any]]]:
    """Functions that start each part once and return its outputs, by mode and name."""
    network = build_network(config.model, NUM_CLASSES)
    batch = jax.device_put(random_batch(config, batch_size))

    def outputs(
        variables: tuple[Variables, Variables], images: jax.Array
    ) -> tuple[jax.Array, jax.Array]:
        return network.apply(*variables, network.normalise(images), train=False)[0]

    offsets, logits = jax.jit(outputs)(network.init(config.seed), batch["image"])
    return {
        "train": _train_parts(config, network, batch, offsets, logits),
        "predict": _predict_parts(config, network, offsets, logits),
    }


def _train_parts(
    config: Config, network: Network, batch: Batch, offsets: jax.Array, logits: jax.Array
) -> dict[str, Callable[[], Any]]:
    images, boxes, labels = batch["image"], batch["boxes"], batch["labels"]
    keys = image_keys(0, jnp.int32(0), jnp.arange(len(images)))
    augmentation = functools.partial(augment, settings=config.augment)
    default_boxes = network.default_boxes()
    matching = functools.partial(match_targets, default_boxes=default_boxes, settings=config.loss)
    mining = functools.partial(hard_negatives, settings=config.loss)
    target_offsets, target_labels = jax.jit(matching)(boxes, labels)

    def loss(
        offsets: jax.Array, logits: jax.Array, target_offsets: jax.Array, target_labels: jax.Array
    ) -> jax.Array:
        targets = target_offsets, target_labels
        sums = multibox_loss(offsets, logits, *targets, config.loss, default_boxes)
        return sums.total(config.loss)

    cross_entropy = softmax_cross_entropy(logits, target_labels)
    outputs_and_targets = (offsets, logits, target_offsets, target_labels)
    return {
        "augmentation": _calling(augmentation, keys, images, batch["window"], boxes, labels),
        "matching": _calling(matching, boxes, labels),
        "mining": _calling(mining, cross_entropy, target_labels),
        "loss with mining and gradient": _calling(
            jax.grad(loss, argnums=(0, 1)), *outputs_and_targets
        ),
    }


def _predict_parts(
    config: Config, network: Network, offsets: jax.Array, logits: jax.Array
) -> dict[str, Callable[[], Any]]:
    default_boxes = network.default_boxes()
    suppression = functools.partial(final_detections, settings=config.detection)
    return {
        "decoding": _calling(score_boxes, offsets, logits, default_boxes),
        "suppression": _calling(suppression, *score_boxes(offsets, logits, default_boxes)),
    }


def _calling(function: Callable[..., Any], *arguments: Any) -> Callable[[], Any]:
    """Compiles a function alone; the result calls it on the same arguments each time."""
    compiled = jax.jit(function)
    return lambda: compiled(*arguments)
