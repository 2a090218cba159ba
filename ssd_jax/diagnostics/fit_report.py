"""The result of `fit_boxes` in words and as JSON."""

import itertools
import json
from typing import Any

import numpy as np

from ssd_jax.detection.fit import LOW_RECALL, Fit
from ssd_jax.diagnostics.fit_boxes import FitResult

LEAST_GAIN = 0.01  # of the objects; a smaller gain is not worth other boxes
SIDES = (0, 8, 16, 32, 64, 128, 256, np.inf)  # bounds of the size groups, pixels of the input


def by_side(fit: Fit) -> list[dict[str, Any]]:
    """The fit of all objects, and of those of each size group."""
    rows = []
    for low, high in [*itertools.pairwise(SIDES), (0, np.inf)]:
        chosen = (fit.sides >= low) & (fit.sides < high)
        if chosen.any():
            best = fit.best_iou[chosen]
            rows.append(
                {
                    "from": low,
                    "to": None if high == np.inf else high,
                    "objects": int(chosen.sum()),
                    "recall": float((best >= fit.iou_threshold).mean()),
                    "mean_best_iou": float(best.mean()),
                    "boxes_per_object": float(fit.matched[chosen].mean()),
                }
            )
    return rows


def format_fit(fit: Fit) -> str:
    """`by_side` as a table."""
    recall = f"recall at IoU {fit.iou_threshold:g}"
    lines = [f"side in pixels   objects{recall:>20}   mean best IoU  boxes per object"]
    *groups, everything = by_side(fit)
    for row in groups:
        side = f"{row['from']} to {row['to']}" if row["to"] else f"from {row['from']}"
        lines.append(_line(side, row))
    lines.append(_line("all", everything))
    missed = int((fit.best_iou < fit.iou_threshold).sum())
    lines.append(f"{missed} objects have no default box of IoU {fit.iou_threshold:g} or more")
    return "\n".join(lines)


def _line(side: str, row: dict[str, Any]) -> str:
    return (
        f"{side:<14}{row['objects']:>10,}{row['recall']:>20.1%}{row['mean_best_iou']:>16.3f}"
        f"{row['boxes_per_object']:>18.1f}"
    )


def format_result(result: FitResult) -> str:
    """The result of `fit_boxes` for the terminal, with the lines for a config."""
    tiling = result.tiling
    parts = [
        f"{len(result.objects):,} objects in {result.num_images:,} images, "
        f"{tiling.num_boxes:,} default boxes at {tiling.image_size} pixels",
        format_fit(result.current),
    ]
    if result.proposed is None or result.proposed_tiling is None:
        parts.append("no better default boxes of the same number were found")
    else:
        maps = "\n".join(f"    {shapes}," for shapes in result.proposed_tiling.shapes)
        parts += [
            "proposed, with the same number of boxes:",
            format_fit(result.proposed),
            f"config.model.shapes = (\n{maps}\n)",
        ]
    return "\n\n".join([*parts, verdict(result)])


def verdict(result: FitResult) -> str:
    """A sentence on whether the proposed boxes are worth a training."""
    before = result.current.recall()
    after = before if result.proposed is None else result.proposed.recall()
    if after - before < LEAST_GAIN:
        return "The default boxes of the config already fit this data: keep them."
    gain = f"The proposed boxes reach {after:.0%} of the objects instead of {before:.0%}: "
    if before < LOW_RECALL:
        return f"{gain}set them in the config, as above."
    return (
        f"{gain}train with both and compare. Where the boxes of the config already reached half of "
        "the objects, proposed ones made short trainings worse."
    )


def to_json(result: FitResult) -> str:
    """The numbers of `format_result` as JSON."""
    content = {
        "num_images": result.num_images,
        "num_objects": len(result.objects),
        "default_boxes": result.tiling.num_boxes,
        "current": {"shapes": result.tiling.shapes, "by_side": by_side(result.current)},
        "proposed": None,
    }
    if result.proposed is not None and result.proposed_tiling is not None:
        content["proposed"] = {
            "shapes": result.proposed_tiling.shapes,
            "by_side": by_side(result.proposed),
        }
    return json.dumps(content, indent=2) + "\n"
