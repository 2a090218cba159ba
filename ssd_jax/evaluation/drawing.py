"""Draws evaluated images with their detections."""

import math
from collections.abc import Mapping, Sequence

import numpy as np
from PIL import Image

from ssd_jax.data.records import NamedImage
from ssd_jax.evaluation import voc
from ssd_jax.evaluation.metric import IOU_THRESHOLD
from ssd_jax.evaluation.results import ImageResult
from ssd_jax.evaluation.statistics import count_false, found_objects
from ssd_jax.images.contact_sheet import Picture
from ssd_jax.images.drawing import DRAWN_SIDE, draw_results

LEAST_SCORE = 0.4  # minimum score of drawn detections
DRAWN = (
    f"objects in white, detections with scores of {LEAST_SCORE:g} and more in colours; "
    f"found: with an IoU above {IOU_THRESHOLD:g}"
)


def draw_detections(
    images: Mapping[str, NamedImage],
    results: Sequence[ImageResult],
    class_names: Sequence[str],
) -> list[Picture]:
    """Images with objects in white and detections above `LEAST_SCORE`, in their files' proportions.

    A caption has the file name and the numbers of objects and found objects. If no detection is
    drawn, it also has the best score.

    Args:
      images: the inputs of the network by image id.
      results: those of other images are left out.
      class_names: class i + 1 is called `class_names[i]`.
    """
    results = [result for result in results if result.image_id in images]
    rankings = voc.rank(results, len(class_names))
    least_scores = np.full(len(class_names), LEAST_SCORE)
    found = found_objects(results, rankings, least_scores)
    false = count_false(results, rankings, least_scores)
    pictures = []
    for result, own, wrong in zip(results, found, false.tolist(), strict=True):
        name, pixels = images[result.image_id]
        # Enlarged, so that lines and letters are sharp in small images too.
        height, width = result.size
        scale = max(1.0, DRAWN_SIDE / max(width, height))
        image = Image.fromarray(pixels)
        image = image.resize((round(width * scale), round(height * scale)))
        shown = result.scores >= LEAST_SCORE
        drawn = draw_results(
            np.asarray(image),
            result.true_boxes * scale,
            result.boxes[shown] * scale,
            result.labels[shown],
            class_names,
            result.scores[shown],
        )
        text = _describe(result, int(own.sum()), wrong)
        pictures.append(Picture(drawn, f"{name}\n{text}"))
    return pictures


def _describe(result: ImageResult, found: int, wrong: int) -> str:
    """A caption: the objects found in an image, short enough to fit below it."""
    wanted = int(np.sum(~(result.difficult | result.crowd)))
    text = f"{found} of {wanted} found" if wanted else "no object"
    if not len(result.scores):
        return f"{text}: no detection"
    best = float(result.scores.max())
    if best < LEAST_SCORE:
        best = math.floor(100 * best) / 100  # not rounded up to the limit
        return f"{text}: best score {best:.2f}, below {LEAST_SCORE:g}"
    return f"{text}, {wrong} wrong" if wrong else text
