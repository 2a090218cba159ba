"""Shared parts of exports for other programs: the network, and its description."""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from ssd_jax.data.class_lists import describe_classes
from ssd_jax.interop.trained import Trained
from ssd_jax.models.convolution import plain_convolutions
from ssd_jax.models.plain import plain_operations


def inference_function(trained: Trained) -> Callable[[jax.Array], tuple[jax.Array, jax.Array]]:
    """The network as a function to trace, from images to offsets and logits.

    It takes `[batch, size, size, 3]` RGB in [0, 255] and has one operation for each layer. It
    always computes in float32, also for networks trained in bfloat16: engines on CPUs have no
    convolutions in bfloat16.
    """
    settings = trained.network.settings.model_copy(update={"precision": "float32"})
    network = dataclasses.replace(trained.network, settings=settings)
    parameters, batch_stats = jax.tree.map(jnp.asarray, trained.variables)

    def outputs(images: jax.Array) -> tuple[jax.Array, jax.Array]:
        with plain_convolutions(), plain_operations():
            normalised = network.normalise(images)
            return network.apply(parameters, batch_stats, normalised, train=False)[0]

    return outputs


def description(trained: Trained, batch: int | str, **of_format: str) -> dict[str, Any]:
    """The information that a program needs to use a file.

    Args:
      trained: the detector.
      batch: the batch size of the file.
      **of_format: entries that depend on the format, like the order of the numbers of a box.
    """
    detection = trained.config.detection
    return {
        "classes": describe_classes(trained.class_names, trained.category_ids),
        "input": f"RGB, uint8, [{batch}, height, width, 3]",
        "image_size": trained.network.tiling.image_size,
        "resize": "the whole image to the square, bilinear without antialiasing",
        **of_format,
        "score_threshold": detection.score_threshold,
        "nms_iou_threshold": detection.nms_iou_threshold,
    }
