"""How the default boxes of a config fit the objects of some data, and which would fit better."""

import dataclasses
import itertools
import json
import warnings
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from scipy.cluster.vq import kmeans2

from ssd_jax.config.schema import as_config
from ssd_jax.data.problems import make_problems
from ssd_jax.data.sources import open_dataset
from ssd_jax.detection.default_boxes import Shapes, Tiling, default_boxes
from ssd_jax.detection.exact_iou import ONE, fixed_point_iou
from ssd_jax.detection.matcher import match
from ssd_jax.errors import UserError
from ssd_jax.models.network import build_network
from ssd_jax.storage.files import local_path

IOU_THRESHOLD = 0.5
SIDES = (0, 8, 16, 32, 64, 128, 256, np.inf)  # bounds of the size groups, pixels of the input
# An object belongs to the coarsest map whose step goes so many times into its side.
STEPS_PER_SIDE = (1.0, 1.5, 2.0, 2.5, 3.0, 4.0)


class Fit(NamedTuple):
    """How default boxes fit some objects.

    Attributes:
      sides: `[objects]` square root of the area, in pixels of the input.
      best_iou: `[objects]` with the default box that fits best.
      matched: `[objects]` how many default boxes the matching gives to the object.
    """

    sides: np.ndarray
    best_iou: np.ndarray
    matched: np.ndarray

    def recall(self) -> float:
        """The share of objects that some default box overlaps by half or more."""
        return float((self.best_iou >= IOU_THRESHOLD).mean())


def fit_boxes(config: Any, source: str = "", num_images: int = 2000) -> dict[str, Any]:
    """Measures the tiling of a config, and looks for one of as many boxes that fits better.

    Args:
      config: a config of `configs/`.
      source: which objects; "" for those of the training data.
      num_images: how many images to read at most.

    Returns:
      `current` and `proposed`, a `Fit` each; `tiling` and `proposed_tiling`; `objects`
      `[objects, 2]`, widths and heights in pixels of the input; `num_images`. What is proposed is
      None where nothing better was found.

    Raises:
      UserError: the config or the source is wrong, or there are no objects.
    """
    config = as_config(config)
    if num_images < 1:
        raise UserError(f"images is {num_images}, but must be 1 or more")
    spec = source or config.data.train
    data = open_dataset(spec, config.data.class_names, make_problems(config.data))
    tiling = build_network(config.model, len(data.class_names)).tiling
    chosen = np.random.default_rng(0).permutation(len(data))[:num_images]
    records = [data[index] for index in chosen.tolist()]
    images = [record.boxes[~record.crowd] for record in records]
    if not sum(map(len, images)):
        raise UserError(f"{spec}: no image has an object")
    objects = np.concatenate([boxes[:, 2:] - boxes[:, :2] for boxes in images]) * tiling.image_size

    current = measure(images, tiling)
    found = [(current, tiling)]
    for steps_per_side in STEPS_PER_SIDE:
        candidate = dataclasses.replace(tiling, shapes=cluster(objects, tiling, steps_per_side))
        found.append((measure(images, candidate), candidate))
    best, best_tiling = max(
        found, key=lambda fit: (round(fit[0].recall(), 3), fit[0].best_iou.mean())
    )
    better = best is not current
    return {
        "num_images": len(images),
        "objects": objects,
        "tiling": tiling,
        "current": current,
        "proposed_tiling": best_tiling if better else None,
        "proposed": best if better else None,
    }


def measure(images: Sequence[np.ndarray], tiling: Tiling) -> Fit:
    """Fits a tiling to the objects of some images.

    Args:
      images: `[objects, 4] xyxy` in [0, 1] of each.
      tiling: the default boxes.
    """
    boxes = default_boxes(tiling)
    room = max(map(len, images))
    best_iou, matched = [], []
    for objects in images:
        padded = np.zeros((room, 4), np.float32)
        padded[: len(objects)] = objects
        for collected, values in zip((best_iou, matched), _fit_image(padded, boxes), strict=True):
            collected.append(np.asarray(values)[: len(objects)])
    sizes = np.concatenate([objects[:, 2:] - objects[:, :2] for objects in images])
    sides = np.sqrt(sizes.prod(axis=1)) * tiling.image_size
    return Fit(sides, np.concatenate(best_iou), np.concatenate(matched))


@jax.jit
def _fit_image(objects: jax.Array, boxes: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Best IoU and number of matched default boxes `[boxes, 4]` of padded objects `[objects, 4]`.

    Compiled once for all tilings of as many boxes.
    """
    iou = fixed_point_iou(objects, boxes)
    iou = jnp.where((objects[:, 2] > objects[:, 0])[:, None], iou, 0)
    owners = match(iou, IOU_THRESHOLD)
    matched = jnp.sum(owners == jnp.arange(len(objects))[:, None], axis=1)
    return jnp.max(iou, axis=1) / ONE, matched


def cluster(objects: np.ndarray, tiling: Tiling, steps_per_side: float) -> tuple[Shapes, ...]:
    """Default boxes at the centres of the objects' shapes, as many on each map as there were.

    Every object goes to one map by its size, and k-means over the logarithms of width and height
    finds the shapes of each map: the IoU of boxes with one centre depends on ratios of sides alone.

    Args:
      objects: `[objects, 2]` widths and heights in pixels of the input.
      tiling: the maps, and how many boxes each has.
      steps_per_side: see `STEPS_PER_SIDE`.
    """
    sides = np.sqrt(objects.prod(axis=1))
    reach = steps_per_side * np.array(tiling.strides)
    predicting = [i for i, shapes in enumerate(tiling.shapes) if shapes]
    owner = np.array(
        [max((i for i in predicting if reach[i] <= side), default=predicting[0]) for side in sides]
    )
    maps = []
    for i, shapes in enumerate(tiling.shapes):
        own = np.log(objects[owner == i])
        if not shapes or len(np.unique(own, axis=0)) < len(shapes):
            maps.append(_rounded(shapes))  # too few objects to say anything
            continue
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # an empty cluster: its shape stays where it began
            centres, _ = kmeans2(own, len(shapes), iter=50, minit="++", seed=0)
        maps.append(_rounded(np.exp(centres[np.argsort(centres.sum(axis=1))])))
    return tuple(maps)


def _rounded(shapes: Sequence[Sequence[float]]) -> Shapes:
    return tuple((round(float(width), 1), round(float(height), 1)) for width, height in shapes)


def by_side(fit: Fit) -> list[dict[str, Any]]:
    """The fit of the objects of each size group that has any, and of all."""
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
                    "recall": float((best >= IOU_THRESHOLD).mean()),
                    "mean_best_iou": float(best.mean()),
                    "boxes_per_object": float(fit.matched[chosen].mean()),
                }
            )
    return rows


def format_fit(fit: Fit) -> str:
    """`by_side` as a table."""
    lines = ["side in pixels   objects   recall at IoU 0.5   mean best IoU   boxes an object"]
    *groups, everything = by_side(fit)
    for row in groups:
        side = f"{row['from']} to {row['to']}" if row["to"] else f"from {row['from']}"
        lines.append(_line(side, row))
    lines.append(_line("all", everything))
    missed = int((fit.best_iou < IOU_THRESHOLD).sum())
    lines.append(f"{missed} objects are overlapped by no default box by half")
    return "\n".join(lines)


def _line(side: str, row: dict[str, Any]) -> str:
    return (
        f"{side:<14}{row['objects']:>10,}{row['recall']:>20.1%}{row['mean_best_iou']:>16.3f}"
        f"{row['boxes_per_object']:>18.1f}"
    )


def format_result(result: dict[str, Any]) -> str:
    """What `fit_boxes` found, for the terminal, with the lines that a config needs."""
    tiling = result["tiling"]
    parts = [
        f"{len(result['objects']):,} objects in {result['num_images']:,} images, "
        f"{tiling.num_boxes:,} default boxes at {tiling.image_size} pixels",
        format_fit(result["current"]),
    ]
    if result["proposed"] is None:
        parts.append("no tiling of as many boxes was found that fits better")
    else:
        maps = "\n".join(f"    {shapes}," for shapes in result["proposed_tiling"].shapes)
        parts += [
            "proposed, with as many boxes:",
            format_fit(result["proposed"]),
            f"config.model.shapes = (\n{maps}\n)",
        ]
    return "\n\n".join(parts)


def to_json(result: dict[str, Any]) -> str:
    """The numbers of `format_result` as JSON."""
    content = {
        "num_images": result["num_images"],
        "num_objects": len(result["objects"]),
        "default_boxes": result["tiling"].num_boxes,
        "current": {"shapes": result["tiling"].shapes, "by_side": by_side(result["current"])},
        "proposed": None,
    }
    if result["proposed"] is not None:
        content["proposed"] = {
            "shapes": result["proposed_tiling"].shapes,
            "by_side": by_side(result["proposed"]),
        }
    return json.dumps(content, indent=2) + "\n"


def plot(result: dict[str, Any], output: str) -> None:
    """Draws shapes, recall by size, and matched boxes.

    Args:
      result: of `fit_boxes`.
      output: the picture file to write.

    Raises:
      UserError: it cannot be written.
    """
    from matplotlib.figure import Figure

    picture_file = local_path(output)
    fits = {"current": (result["current"], result["tiling"], "tab:orange", 60)}
    if result["proposed"] is not None:
        fits["proposed"] = (result["proposed"], result["proposed_tiling"], "tab:blue", 18)
    figure = Figure(figsize=(15, 5), layout="constrained")
    shapes, recall, matched = figure.subplots(1, 3)

    objects = result["objects"]
    shapes.scatter(*objects.T, s=5, color="0.75", label="objects", rasterized=True)
    for name, (_, tiling, color, area) in fits.items():
        points = np.array([shape for map_shapes in tiling.shapes for shape in map_shapes])
        shapes.scatter(*points.T, s=area, color=color, edgecolor="k", label=name)
    shapes.set(
        xscale="log",
        yscale="log",
        xlabel=f"width in pixels of {result['tiling'].image_size}",
        ylabel="height",
        title="Shapes of objects and default boxes",
    )
    ticks = [side for side in SIDES if objects.min() / 2 < side < 2 * objects.max()]
    for axis in (shapes.xaxis, shapes.yaxis):
        axis.set_ticks(ticks, [str(side) for side in ticks])
        axis.set_ticks([], minor=True)
    shapes.legend()

    *groups, _ = by_side(result["current"])
    width = 0.8 / len(fits)
    for i, (name, (fit, _, color, _)) in enumerate(fits.items()):
        *rows, _ = by_side(fit)
        places = np.arange(len(rows)) + (i - (len(fits) - 1) / 2) * width
        heights = [row["recall"] for row in rows]
        recall.bar(places, heights, width, color=color, label=f"{name}: {fit.recall():.1%} in all")
    names = [f"{row['from']}–{row['to']}" if row["to"] else f"≥ {row['from']}" for row in groups]
    labels = [f"{name}\n{row['objects']:,}" for name, row in zip(names, groups, strict=True)]
    recall.set_xticks(np.arange(len(groups)), labels)
    recall.set(
        ylim=(0, 1.15),
        xlabel="side of the object in pixels, and how many there are",
        title="Objects with a default box of IoU 0.5 or more",
    )
    recall.yaxis.set_major_formatter(lambda value, _: f"{value:.0%}" if value <= 1 else "")
    recall.legend(loc="upper center", ncols=len(fits))

    most = 20
    for i, (name, (fit, _, color, _)) in enumerate(fits.items()):
        counts = np.bincount(np.minimum(fit.matched, most), minlength=most + 1)
        places = np.arange(most + 1) + (i - (len(fits) - 1) / 2) * width
        matched.bar(places, counts / counts.sum(), width, color=color, label=name)
    ticks = range(0, most + 1, 4)
    matched.set_xticks(ticks, [f"{tick}" if tick < most else f"≥ {most}" for tick in ticks])
    matched.set(xlabel="default boxes matched to an object", title="Matched boxes of an object")
    matched.yaxis.set_major_formatter(lambda value, _: f"{value:.1%}")
    matched.legend()
    try:
        figure.savefig(picture_file, dpi=110)
    except (OSError, ValueError) as error:
        raise UserError(f"{output} cannot be written: {error}") from error
