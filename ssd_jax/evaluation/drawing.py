"""Evaluated images with what was detected in them."""

from collections.abc import Mapping, Sequence

import numpy as np
from PIL import Image

from ssd_jax.evaluation.results import ImageResult
from ssd_jax.images.drawing import DRAWN_SIDE, draw_boxes

LEAST_SCORE = 0.4  # of detections worth showing


def draw_detections(
    images: Mapping[str, np.ndarray],
    results: Sequence[ImageResult],
    class_names: Sequence[str],
) -> list[Image.Image]:
    """Images with the detections worth showing, in the proportions of their files.

    Args:
      images: by name, `[size, size, 3] uint8`, as the network saw them.
      results: those of other images are left out.
      class_names: class i + 1 is called `class_names[i]`.
    """
    drawn = []
    for result in results:
        if result.image_id not in images:
            continue
        # Scaled so that lines and letters come out fine also for small images.
        height, width = result.size
        scale = max(1.0, DRAWN_SIDE / max(width, height))
        image = Image.fromarray(images[result.image_id])
        image = image.resize((round(width * scale), round(height * scale)))
        shown = result.scores >= LEAST_SCORE
        drawn.append(
            draw_boxes(
                image,
                result.boxes[shown] * scale,
                result.labels[shown],
                class_names,
                result.scores[shown],
            )
        )
    return drawn
