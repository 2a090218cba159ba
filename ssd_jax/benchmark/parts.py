"""What shares of the train step and of detection their parts take, each measured alone.

Alone a part reads its inputs from memory and writes its outputs there, and is started for itself:
inside the step, where XLA fuses parts with each other, it takes less.
"""

import functools
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp

from ssd_jax.benchmark.network import (
    NUM_CLASSES,
    check_precisions,
    default_precisions,
    measure,
    random_batch,
    with_precision,
)
from ssd_jax.benchmark.timing import time_calls
from ssd_jax.config.schema import as_config
from ssd_jax.detection.losses import hard_negatives, multibox_loss, softmax_cross_entropy
from ssd_jax.detection.matcher import match_targets
from ssd_jax.detection.postprocess import best_detections, score_boxes
from ssd_jax.distributed import devices
from ssd_jax.errors import UserError
from ssd_jax.models.network import build_network
from ssd_jax.training.augmentation import augment, image_keys


def benchmark_parts(
    config: Any, precisions: Sequence[str] = (), batch_size: int = 8, seconds: float = 4.0
) -> list[dict[str, Any]]:
    """Measures parts of the step beside the whole, with random pictures, objects and weights.

    Args:
      config: a config of `configs/`.
      precisions: of `PRECISIONS`; by default all that differ on the device.
      batch_size: images of a device.
      seconds: how long each is measured.

    Returns:
      Rows with `precision`, `batch_size`, `part`, `of` ("train" or "predict"), `milliseconds`
      (median) and `share` of the whole.

    Raises:
      UserError: the config or a value is wrong, or a batch does not fit into the memory.
    """
    config = as_config(config)
    precisions = tuple(precisions) or default_precisions()
    check_precisions(precisions)
    rows = []
    for precision in precisions:
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


def _parts(config: Any, batch_size: int) -> dict[str, dict[str, Any]]:
    """By mode and name what starts a part."""
    network = build_network(config.model, NUM_CLASSES)
    default_boxes = network.default_boxes()
    batch = jax.device_put(random_batch(config, batch_size))
    images, boxes, labels = batch["image"], batch["boxes"], batch["labels"]
    keys = image_keys(0, jnp.int32(0), jnp.arange(batch_size))
    apply = jax.jit(
        lambda variables, images: network.apply(*variables, network.normalise(images), train=False)[
            0
        ]
    )
    offsets, logits = apply(network.init(config.seed), images)

    augmentation = functools.partial(augment, settings=config.augment)
    matching = functools.partial(match_targets, default_boxes=default_boxes, settings=config.loss)
    target_offsets, target_labels = jax.jit(matching)(boxes, labels)

    def mining(cross_entropy, target_labels):
        return hard_negatives(cross_entropy, target_labels, config.loss)

    def loss_sum(offsets, logits, target_offsets, target_labels):
        sums = multibox_loss(offsets, logits, target_offsets, target_labels, config.loss)
        return sums.total(config.loss)

    suppression = functools.partial(best_detections, settings=config.detection)

    def calling(function, *arguments):
        compiled = jax.jit(function)
        return lambda: compiled(*arguments)

    return {
        "train": {
            "augmentation": calling(augmentation, keys, images, batch["window"], boxes, labels),
            "matching": calling(matching, boxes, labels),
            "mining": calling(mining, softmax_cross_entropy(logits, target_labels), target_labels),
            "loss with mining and gradient": calling(
                jax.grad(loss_sum, argnums=(0, 1)), offsets, logits, target_offsets, target_labels
            ),
        },
        "predict": {
            "decoding": calling(score_boxes, offsets, logits, default_boxes),
            "suppression": calling(suppression, *score_boxes(offsets, logits, default_boxes)),
        },
    }
