"""Results as numbers, as text, and as pictures."""

from collections.abc import Sequence

import numpy as np
from PIL import Image

from ssd_jax.evaluation.draw import draw_boxes
from ssd_jax.evaluation.voc import ImageResult, average_precision, mean_over_classes


def summarise(results: Sequence[ImageResult], class_names: Sequence[str]) -> dict:
    """What `results.json` holds.

    Returns:
      `metric` "voc07", `mAP` and `AP_per_class` by the 11-point rule, `mAP_area` and
      `AP_area_per_class` by the area rule, `num_images`. A class without objects has the AP None
      and is left out of the means.
    """
    ap = average_precision(results, len(class_names))

    def per_class(values):
        return {
            name: None if np.isnan(value) else float(value)
            for name, value in zip(class_names, values, strict=True)
        }

    return {
        "metric": "voc07",
        "mAP": mean_over_classes(ap.eleven_point),
        "AP_per_class": per_class(ap.eleven_point),
        "mAP_area": mean_over_classes(ap.area),
        "AP_area_per_class": per_class(ap.area),
        "num_images": len(results),
    }


def format_table(summary: dict) -> str:
    """The summary as a table to print."""
    width = max(len(name) for name in ("all classes", *summary["AP_per_class"]))

    def row(name, *values):
        cells = ["no objects" if value is None else f"{value:.4f}" for value in values]
        return f"{name:<{width}}  {cells[0]:>10}  {cells[1]:>10}"

    lines = [
        f"AP at IoU 0.5 on {summary['num_images']} images",
        f"{'class':<{width}}  {'11-point':>10}  {'area':>10}",
    ]
    lines += [
        row(name, value, summary["AP_area_per_class"][name])
        for name, value in summary["AP_per_class"].items()
    ]
    lines.append(row("mAP", summary["mAP"], summary["mAP_area"]))
    return "\n".join(lines)


def draw_detections(
    pictures: Sequence[np.ndarray],
    results: Sequence[ImageResult],
    class_names: Sequence[str],
    score_threshold: float = 0.4,
) -> list[Image.Image]:
    """Pictures with the detections worth showing, in the proportions of their files.

    Args:
      pictures: `[size, size, 3] uint8`, as the network saw them.
      results: one a picture.
      class_names: class i + 1 is called `class_names[i]`.
      score_threshold: detections with a lower score are not drawn.
    """
    drawn = []
    for picture, result in zip(pictures, results, strict=True):
        # Scaled so that lines and letters come out fine also for small pictures.
        width, height = result.size[::-1]
        scale = max(1.0, 480 / max(width, height))
        image = Image.fromarray(picture).resize((round(width * scale), round(height * scale)))
        shown = result.scores >= score_threshold
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
