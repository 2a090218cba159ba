"""Charts of the result of `fit_boxes`."""

from typing import TYPE_CHECKING

import numpy as np

from ssd_jax.diagnostics.fit_boxes import FitResult
from ssd_jax.diagnostics.fit_report import SIDES, by_side
from ssd_jax.errors import UserError
from ssd_jax.storage.files import local_path
from ssd_jax.storage.replacing import replacing

if TYPE_CHECKING:
    from matplotlib.axes import Axes

COLORS = {"current": "tab:orange", "proposed": "tab:blue"}
POINT_AREAS = {"current": 60, "proposed": 18}
MOST_MATCHED = 20  # objects with more matched boxes share the last bar


def plot(result: FitResult, output: str) -> None:
    """Draws shapes, recall by size, and matched boxes.

    Args:
      result: of `fit_boxes`.
      output: the file to write.

    Raises:
      UserError: it cannot be written.
    """
    from matplotlib.figure import Figure

    file = local_path(output)
    figure = Figure(figsize=(15, 5), layout="constrained")
    shapes, recall, matched = figure.subplots(1, 3)
    _plot_shapes(shapes, result)
    _plot_recall(recall, result)
    _plot_matched(matched, result)
    try:
        with replacing(file) as unfinished:
            figure.savefig(unfinished, dpi=110)
    except (OSError, ValueError) as error:
        raise UserError(f"{output} cannot be written: {error}") from error


def _plot_shapes(axes: "Axes", result: FitResult) -> None:
    """Widths and heights of objects and default boxes."""
    objects = result.objects
    axes.scatter(*objects.T, s=5, color="0.75", label="objects", rasterized=True)
    for name, (_, tiling) in result.fits().items():
        points = np.array([shape for map_shapes in tiling.shapes for shape in map_shapes])
        axes.scatter(*points.T, s=POINT_AREAS[name], color=COLORS[name], edgecolor="k", label=name)
    axes.set(
        xscale="log",
        yscale="log",
        xlabel=f"width in pixels of {result.tiling.image_size}",
        ylabel="height",
        title="Shapes of objects and default boxes",
    )
    ticks = [side for side in SIDES if objects.min() / 2 < side < 2 * objects.max()]
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_ticks(ticks, [str(side) for side in ticks])
        axis.set_ticks([], minor=True)
    axes.legend()


def _plot_recall(axes: "Axes", result: FitResult) -> None:
    """Recall of the objects of each size group."""
    fits = result.fits()
    *groups, _ = by_side(result.current)
    width = 0.8 / len(fits)
    for i, (name, (fit, _)) in enumerate(fits.items()):
        *rows, _ = by_side(fit)
        places = np.arange(len(rows)) + (i - (len(fits) - 1) / 2) * width
        label = f"{name}: {fit.recall():.1%} of all"
        axes.bar(places, [row["recall"] for row in rows], width, color=COLORS[name], label=label)
    names = [f"{row['from']}–{row['to']}" if row["to"] else f"≥ {row['from']}" for row in groups]
    labels = [f"{name}\n{row['objects']:,}" for name, row in zip(names, groups, strict=True)]
    axes.set_xticks(np.arange(len(groups)), labels)
    axes.set(
        ylim=(0, 1.15),
        xlabel="side of the object in pixels, and number of objects",
        title=f"Objects with a default box of IoU {result.current.iou_threshold:g} or more",
    )
    axes.yaxis.set_major_formatter(lambda value, _: f"{value:.0%}" if value <= 1 else "")
    axes.legend(loc="upper center", ncols=len(fits))


def _plot_matched(axes: "Axes", result: FitResult) -> None:
    """A histogram of the number of default boxes matched to an object."""
    fits = result.fits()
    width = 0.8 / len(fits)
    for i, (name, (fit, _)) in enumerate(fits.items()):
        counts = np.bincount(np.minimum(fit.matched, MOST_MATCHED), minlength=MOST_MATCHED + 1)
        places = np.arange(MOST_MATCHED + 1) + (i - (len(fits) - 1) / 2) * width
        axes.bar(places, counts / counts.sum(), width, color=COLORS[name], label=name)
    ticks = range(0, MOST_MATCHED + 1, 4)
    axes.set_xticks(ticks, [f"{tick}" if tick < MOST_MATCHED else f"≥ {tick}" for tick in ticks])
    axes.set(xlabel="default boxes matched to an object", title="Matched boxes per object")
    axes.yaxis.set_major_formatter(lambda value, _: f"{value:.1%}")
    axes.legend()
