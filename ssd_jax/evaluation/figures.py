"""The figures of a report, as SVG in data URIs."""

import base64
import functools
import io
from collections.abc import Sequence
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib import font_manager
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from ssd_jax.evaluation.error_analysis import NAMES, SHAPE_GROUPS, SIZE_GROUPS
from ssd_jax.evaluation.ranking import OperatingPoint, Ranking, envelope, precision_recall
from ssd_jax.evaluation.statistics import Bin, Calibration
from ssd_jax.images.fonts import path_and_text

COLORS = {
    "correct": "#2f9e77",
    "localisation": "#e3b23c",
    "similar": "#e07b39",
    "other": "#b5446e",
    "background": "#5c6bc0",
    "undetected": "#d9363e",
    "missed": "#d9363e",
}
MAIN, SECOND = "#2b6cb0", "#a8c5e2"
WIDE, SMALL = (4.6, 3.1), (2.8, 2.3)  # inches
FEWEST = 5  # detections in a point of the reliability diagram; the share of fewer is chance

STYLE: dict[Any, Any] = {
    "font.size": 10,
    "font.family": "sans-serif",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlesize": 10,
    "axes.grid": True,
    "grid.color": "#e6e9ee",
    "axes.axisbelow": True,
    "legend.frameon": False,
    "svg.hashsalt": "ssd_jax",  # the same figure gives the same file
}


def _new(size: tuple[float, float]) -> tuple[Figure, Axes]:
    figure = Figure(figsize=size, layout="constrained")
    return figure, figure.add_subplot()


def _tick_names(class_names: Sequence[str]) -> tuple[list[str], dict[str, Any]]:
    """Class names in characters of the fonts, and the style of tick labels: fonts, no TeX maths."""
    drawn = [path_and_text(name) for name in class_names]
    families = dict.fromkeys(["sans-serif", *(_family(path) for path, _ in drawn if path)])
    return [text for _, text in drawn], {"fontfamily": list(families), "parse_math": False}


@functools.cache
def _family(path: str) -> str:
    """Registers a font file with Matplotlib; returns the name of the font."""
    font_manager.fontManager.addfont(path)
    return font_manager.FontProperties(fname=path).get_name()


def _data_uri(figure: Figure) -> str:
    file = io.BytesIO()
    figure.savefig(file, format="svg", metadata={"Date": None})
    return "data:image/svg+xml;base64," + base64.b64encode(file.getvalue()).decode()


@mpl.rc_context(STYLE)
def precision_recall_curve(ranking: Ranking, point: OperatingPoint | None) -> str:
    """Precision over recall of one class, with its operating point."""
    figure, axes = _new(SMALL)
    precision, recall = (values[0] for values in precision_recall(ranking))
    # Only the corners of the curve: the points where the best precision changes.
    best = envelope(precision)
    corners = np.flatnonzero(np.diff(best, append=-1.0) != 0)
    steps_recall = np.concatenate([[0.0], np.repeat(recall[corners], 2)])
    steps_best = np.concatenate([np.repeat(best[corners], 2), [0.0]])
    axes.plot(steps_recall, steps_best, color=MAIN, clip_on=False)
    axes.fill_between(steps_recall, steps_best, color=MAIN, alpha=0.12, linewidth=0)
    if point:
        axes.plot(point.recall, point.precision, "o", color=COLORS["other"], clip_on=False)
    axes.set(xlim=(0, 1), ylim=(0, 1.02), xlabel="recall", ylabel="precision")
    return _data_uri(figure)


@mpl.rc_context(STYLE)
def detection_kinds(
    per_object: np.ndarray,
    shares: np.ndarray,
    kinds: Sequence[str],
    strict: np.ndarray,
    weak: np.ndarray,
) -> str:
    """Kinds of the best detections, with recall at IoU 0.5 and 0.1 (figure 3, top)."""
    figure, axes = _new(WIDE)
    _stack(axes, per_object, shares, kinds)
    axes.plot(per_object, 100 * strict, color="#c1121f", label="recall")
    axes.plot(per_object, 100 * weak, color="#c1121f", linestyle="--", label="recall, IoU 0.1")
    axes.set(xlabel="detections per object", ylabel="percent")
    figure.legend(loc="outside upper center", ncols=4, fontsize=8)
    return _data_uri(figure)


@mpl.rc_context(STYLE)
def false_positive_kinds(per_object: np.ndarray, shares: np.ndarray, kinds: Sequence[str]) -> str:
    """Kinds of the best false positives (figure 3, bottom)."""
    figure, axes = _new(WIDE)
    _stack(axes, per_object, shares, kinds)
    axes.set(xlabel="false positives per object", ylabel="percent")
    figure.legend(loc="outside upper center", ncols=4, fontsize=8)
    return _data_uri(figure)


def _stack(axes: Axes, per_object: np.ndarray, shares: np.ndarray, kinds: Sequence[str]) -> None:
    colors = [COLORS[kind] for kind in kinds]
    names = [NAMES[kind] for kind in kinds]
    axes.stackplot(per_object, 100 * shares.T, labels=names, colors=colors, linewidth=0)
    axes.set_xscale("log", base=2)
    axes.set_xticks(per_object, [f"{value:g}" for value in per_object])
    axes.set(xlim=(per_object[0], per_object[-1]), ylim=(0, 100))
    axes.grid(False)


@mpl.rc_context(STYLE)
def costs(kinds: Sequence[str], values: Sequence[float | None]) -> str:
    """The cost of each kind of error in mAP; None without objects."""
    figure, axes = _new((WIDE[0], 2.3))
    known = np.array([value or 0.0 for value in values])
    names = [NAMES[kind] for kind in kinds]
    bars = axes.barh(names, 100 * known, color=[COLORS[kind] for kind in kinds])
    texts = ["–" if value is None else f"{100 * value:.1f}" for value in values]
    axes.bar_label(bars, texts, padding=3)
    axes.invert_yaxis()
    axes.grid(False, axis="y")
    axes.margins(x=0.12)
    axes.set_xlabel("mAP points")
    return _data_uri(figure)


@mpl.rc_context(STYLE)
def recall_bars(bins: Sequence[Bin], label: str) -> str:
    """Recall by size or shape, of all detections and at the operating points."""
    figure, axes = _new(WIDE)
    places = np.arange(len(bins))
    axes.bar(places, [b.recall for b in bins], color=SECOND, label="all detections")
    axes.bar(places, [b.recall_at_points for b in bins], 0.5, color=MAIN, label="operating points")
    for place, each in zip(places, bins, strict=True):
        axes.annotate(
            str(each.num_objects),
            (place, each.recall),
            (0, 2),
            textcoords="offset points",
            ha="center",
            fontsize=8,
        )
    axes.set_xticks(places, [b.name for b in bins], rotation=30, ha="right", fontsize=9)
    # Keeps bars narrow when there are few.
    axes.set(xlim=(-0.7, max(len(bins), 5) - 0.3), ylim=(0, 1.08), xlabel=label, ylabel="recall")
    axes.grid(False, axis="x")
    figure.legend(loc="outside upper center", ncols=2, fontsize=9)
    return _data_uri(figure)


@mpl.rc_context(STYLE)
def sensitivity(by_size: np.ndarray, by_shape: np.ndarray) -> str:
    """Normalised AP of the objects of each group (figure 4)."""
    figure = Figure(figsize=WIDE, layout="constrained")
    left, right = figure.subplots(1, 2, sharey=True)
    for axes, values, names, title in (
        (left, by_size, SIZE_GROUPS, "size of the box"),
        (right, by_shape, SHAPE_GROUPS, "width over height"),
    ):
        known = np.nan_to_num(values[:-1])
        bars = axes.bar(range(5), known, color=MAIN)
        texts = ["–" if np.isnan(value) else f"{value:.2f}" for value in values[:-1]]
        for label in axes.bar_label(bars, texts, fontsize=8, padding=1):
            label.set_bbox({"facecolor": "white", "edgecolor": "none", "pad": 0.5})
        axes.axhline(np.nan_to_num(values[-1]), color="#888", linestyle="--", zorder=0)
        axes.set_xticks(range(5), names, rotation=35, ha="right", fontsize=9)
        axes.set_title(title)
        axes.grid(False, axis="x")
    left.set(ylim=(0, 1.05), ylabel="normalised AP")
    return _data_uri(figure)


@mpl.rc_context(STYLE)
def confusion_matrix(matrix: np.ndarray, class_names: Sequence[str]) -> str:
    """The confusion matrix, each row in shares of its sum."""
    count = len(class_names)
    side = min(9.0, max(WIDE[0], 0.36 * (count + 1) + 1.2))
    figure, axes = _new((side, side))
    shares = matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1)
    axes.imshow(np.sqrt(shares), cmap="Blues", vmin=0, vmax=1)
    size = 9 if count <= 20 else 5
    names, style = _tick_names(class_names)
    axes.set_xticks(range(count + 1), [*names, "missed"], rotation=90, fontsize=size, **style)
    axes.set_yticks(range(count + 1), [*names, "nothing"], fontsize=size, **style)
    if count <= 25:
        for row, column in np.argwhere(matrix > 0):
            axes.text(
                column,
                row,
                str(matrix[row, column]),
                ha="center",
                va="center",
                fontsize=9 if count <= 10 else 6,
                color="white" if shares[row, column] > 0.4 else "#222",
            )
    axes.set(xlabel="detected", ylabel="annotated")
    axes.grid(False)
    axes.spines[:].set_visible(False)
    return _data_uri(figure)


@mpl.rc_context(STYLE)
def score_histogram(scores: np.ndarray, right: np.ndarray) -> str:
    """A histogram of the scores of correct and false detections."""
    figure, axes = _new(WIDE)
    edges = np.linspace(min(0.0, scores.min(initial=0)), max(1.0, scores.max(initial=1)), 21)
    axes.hist(
        [scores[right], scores[~right]],
        edges.tolist(),
        stacked=True,
        color=[COLORS["correct"], "#8a94a0"],
        label=["right", "wrong"],
    )
    axes.set_yscale("symlog", linthresh=10)
    ticks = [0, 5, *(10**power for power in range(1, 7))]
    axes.set_yticks(ticks, [f"{tick:,}" for tick in ticks])
    axes.tick_params(axis="y", which="minor", left=False)
    most = np.histogram(scores, edges)[0].max(initial=5)
    axes.set_ylim(0, 1.5 * most)
    axes.set(xlabel="score", ylabel="detections", xlim=(edges[0], edges[-1]))
    figure.legend(loc="outside upper center", ncols=2)
    return _data_uri(figure)


@mpl.rc_context(STYLE)
def reliability(calibration: Calibration) -> str:
    """The share of correct detections by score, with their number: a reliability diagram."""
    figure, axes = _new(WIDE)
    axes.plot([0, 1], [0, 1], color="#888", linestyle="--", linewidth=1, label="ideal")
    some = calibration.counts >= FEWEST
    scores, precision = calibration.scores[some], calibration.precision[some]
    axes.plot(scores, precision, "o-", color=MAIN, clip_on=False)
    # Above the middle of its range of scores, no number touches another one.
    middles = (np.flatnonzero(some) + 0.5) / len(some)
    numbers = axes.secondary_xaxis("top")
    numbers.set_xticks(middles, list(map(_short, calibration.counts[some].tolist())), fontsize=8)
    numbers.set_xlabel("number of detections", fontsize=9)
    numbers.spines[:].set_visible(False)
    numbers.tick_params(length=0)
    if not some.any():
        text = f"no range of scores has {FEWEST} detections"
        axes.text(0.5, 0.5, text, ha="center", fontsize=9)
    axes.set(xlim=(0, 1), ylim=(0, 1.02), xlabel="mean score", ylabel="share that is right")
    axes.legend(loc="upper left")
    return _data_uri(figure)


def _short(count: int) -> str:
    """A number in at most five characters, with thousands (k) from 10,000 on."""
    return f"{count:,}" if count < 10_000 else f"{count / 1000:,.0f}k"


@mpl.rc_context(STYLE)
def objects_per_class(class_names: Sequence[str], counts: Sequence[int]) -> str:
    """The number of objects of each class."""
    shown: list[int] = np.argsort(counts)[::-1][:40].tolist()
    figure, axes = _new((WIDE[0], max(1.6, 0.24 * len(shown) + 0.7)))
    bars = axes.barh(range(len(shown)), [counts[i] for i in shown], color=MAIN)
    names, style = _tick_names([class_names[i] for i in shown])
    axes.set_yticks(range(len(shown)), names, **style)
    axes.bar_label(bars, padding=3, fontsize=9)
    axes.invert_yaxis()
    axes.margins(x=0.12, y=0.02)
    axes.grid(False, axis="y")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_xlabel("objects" if len(counts) <= 40 else "objects of the 40 most frequent classes")
    return _data_uri(figure)


@mpl.rc_context(STYLE)
def object_sizes(sides: np.ndarray) -> str:
    """A histogram of the sizes of the objects."""
    figure, axes = _new(WIDE)
    edges = np.geomspace(4, 1024, 25)
    axes.hist(np.clip(sides, edges[0], edges[-1]), edges.tolist(), color=MAIN)
    axes.set_xscale("log", base=2)
    axes.set_xticks([4, 16, 32, 64, 96, 192, 512], ["4", "16", "32", "64", "96", "192", "512"])
    axes.tick_params(axis="x", which="minor", bottom=False)
    axes.yaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set(xlabel="square root of the area in pixels", ylabel="objects", xlim=(4, 1024))
    return _data_uri(figure)
