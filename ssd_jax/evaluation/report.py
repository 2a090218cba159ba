"""The report on an evaluation: one self-contained HTML file."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jinja2
import numpy as np

from ssd_jax.data.class_lists import similar_groups
from ssd_jax.evaluation import error_analysis, figures, statistics, voc
from ssd_jax.evaluation.comparison import LETTERS, has_significant
from ssd_jax.evaluation.conclusions import conclude
from ssd_jax.evaluation.drawing import LEAST_SCORE
from ssd_jax.evaluation.error_analysis import (
    KINDS,
    MEANINGS,
    NAMES,
    ErrorAnalysis,
    name_with_key,
)
from ssd_jax.evaluation.galleries import (
    PER_GALLERY,
    PER_IMAGE,
    ReadImages,
    draw_galleries,
    picture_uri,
)
from ssd_jax.evaluation.metric import IOU_THRESHOLD
from ssd_jax.evaluation.metrics import METRICS
from ssd_jax.evaluation.ranking import (
    OperatingPoint,
    Ranking,
    best_f1,
    mean_over_classes,
)
from ssd_jax.evaluation.results import ImageResult
from ssd_jax.evaluation.summary import by_metric
from ssd_jax.images.drawing import draw_results
from ssd_jax.storage.files import write_bytes

PER_OBJECT = 2.0 ** np.arange(-3, 4)  # detections per object on the x axis of error kinds
# The same in each report. The limits are numbers in the texts of the page.
FIXED = {
    "limits": {"iou": error_analysis.WEAK_IOU, "point": figures.FEWEST, "image": PER_IMAGE},
    "table": METRICS,
    "names": NAMES,
    "colors": figures.COLORS,
}


def write_report(
    folder: Path,
    results: Sequence[ImageResult],
    class_names: Sequence[str],
    summary: dict[str, Any],
    about: dict[str, str],
    read_images: ReadImages,
    image_size: int | None = None,
    of_run: str = "",
) -> None:
    """Writes `index.html`, the report on one detector.

    Args:
      folder: created if it does not exist.
      results: the images.
      class_names: class i + 1 is called `class_names[i]`.
      summary: from `summarise`.
      about: the evaluated `run` and `data`, as text.
      read_images: gives images by image id.
      image_size: side of the network's input, in pixels; None if unknown.
      of_run: see `conclude`.
    """
    metric_iou_threshold = summary.get("iou_threshold", IOU_THRESHOLD)
    # The kinds of errors are defined at one IoU threshold.
    first = METRICS[summary["metric"]]
    rule = voc.METRIC if first.own_iou_thresholds else first
    rankings = voc.rank(results, len(class_names), metric_iou_threshold)
    points = [best_f1(ranking) for ranking in rankings]
    least = statistics.thresholds(points)
    analysis = error_analysis.analyse(results, rankings, class_names, similar_groups(class_names))
    kinds = error_analysis.possible_kinds(class_names, similar_groups(class_names))
    costs = error_analysis.costs(results, rankings, analysis, rule.average)
    costs = {kind: values for kind, values in costs.items() if kind in (*kinds, "undetected")}
    galleries = draw_galleries(results, rankings, class_names, least, analysis, read_images)
    content = FIXED | {
        "about": about,
        "summary": summary,
        "metrics": by_metric(summary),
        "conclusions": conclude(results, class_names, summary, rule.average, image_size, of_run),
        "iou_threshold": metric_iou_threshold,
        "classes": _class_rows(class_names, summary, rankings, points, analysis, costs),
        "kinds": kinds,
        "meanings": {name_with_key(kind): MEANINGS[kind] for kind in costs},
        "costs": {kind: mean_over_classes(values) for kind, values in costs.items()},
        "rule": rule.title,
        "figures": _figures(results, rankings, class_names, least, analysis, costs),
        "curves": [
            (name, point, len(ranking.score), figures.precision_recall_curve(ranking, point))
            for name, ranking, point in zip(class_names, rankings, points, strict=True)
            if ranking.num_objects.any()
        ],
        "calibration_error": statistics.calibration(rankings).expected_error,
        "data": _describe_data(results),
        "scores": _describe_scores(results, rankings, least),
        "galleries": [each for each in galleries if each["name"] in (*kinds, "missed")],
    }
    _write(folder, "report.html.jinja", content)


def write_comparison(
    folder: Path,
    comparison: dict[str, Any],
    candidates: Sequence[Sequence[ImageResult]],
    class_names: Sequence[str],
    data: str,
    read_images: ReadImages,
) -> None:
    """Writes `index.html`, the report on a comparison.

    Args:
      folder: created if it does not exist.
      comparison: from `compare`.
      candidates: for each detector the compared results.
      class_names: class i + 1 is called `class_names[i]`.
      data: the name of the evaluation data.
      read_images: gives images by image id.
    """
    place = {result.image_id: i for i, result in enumerate(candidates[0])}
    chosen = [changed[:PER_GALLERY] for changed in comparison["images"]]
    shown = read_images({image["image_id"] for changed in chosen for image in changed})
    least = [
        statistics.thresholds([best_f1(ranking) for ranking in rankings])
        for rankings in (
            voc.rank(results, len(class_names), comparison["iou_threshold"])
            for results in candidates
        )
    ]

    def drawn(image_id: str, candidate: int) -> str:
        result = candidates[candidate][place[image_id]]
        reached = result.scores >= least[candidate][result.labels - 1]
        boxes, labels = result.boxes[reached], result.labels[reached]
        pixels = shown[image_id].pixels
        image = draw_results(pixels, result.true_boxes, boxes, labels, class_names)
        return picture_uri(image)

    content = {
        "comparison": comparison,
        "has_significant": has_significant(comparison),
        "letters": LETTERS,
        "title": METRICS[comparison["metric"]].title,
        "data": data,
        "changed": [
            [
                (image, drawn(image["image_id"], 0), drawn(image["image_id"], number))
                for image in changed
            ]
            for number, changed in enumerate(chosen, start=1)
        ],
    }
    _write(folder, "comparison.html.jinja", content)


def _write(folder: Path, template: str, content: dict[str, Any]) -> None:
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("ssd_jax.evaluation", "pages"),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    folder.mkdir(parents=True, exist_ok=True)
    page = environment.get_template(template).render(content)
    # Names that are not valid Unicode are shown with escapes.
    write_bytes(folder / "index.html", page.encode(errors="backslashreplace"))


def _class_rows(
    class_names: Sequence[str],
    summary: dict[str, Any],
    rankings: Sequence[Ranking],
    points: Sequence[OperatingPoint | None],
    analysis: ErrorAnalysis,
    costs: dict[str, np.ndarray],
) -> list[dict[str, Any]]:
    """A row for each class of the tables of AP and of errors."""
    rows = []
    shown = [place for place, kind in enumerate(KINDS) if kind == "correct" or kind in costs]
    for i, name in enumerate(class_names):
        kinds = analysis.kinds[i][analysis.kinds[i] >= 0]
        # As in Hoiem et al.: the N best detections of a class with N objects.
        best = kinds[: rankings[i].num_objects.sum()]
        rows.append(
            {
                "name": name,
                "objects": int(rankings[i].num_objects.sum()),
                "detections": len(kinds),
                "ap": [numbers["AP_per_class"][name] for numbers in by_metric(summary).values()],
                "point": points[i],
                "kinds": np.bincount(best, minlength=len(KINDS))[shown].tolist(),
                "costs": {kind: float(values[i]) for kind, values in costs.items()},
            }
        )
    return rows


def _figures(
    results: Sequence[ImageResult],
    rankings: Sequence[Ranking],
    class_names: Sequence[str],
    least: np.ndarray,
    analysis: ErrorAnalysis,
    costs: dict[str, np.ndarray],
) -> dict[str, str]:
    """The figures by name."""
    num_classes = len(class_names)
    sides = [statistics.side(result) for result in results]
    ratios = [statistics.aspect_ratio(result) for result in results]
    found = statistics.found_objects(results, rankings, np.full(num_classes, -np.inf))
    found_at_points = statistics.found_objects(results, rankings, least)
    by_size = statistics.recall_by(
        results, sides, statistics.SIZE_EDGES, statistics.size_names(), found, found_at_points
    )
    by_shape = statistics.recall_by(
        results, ratios, statistics.SHAPE_EDGES, statistics.SHAPE_NAMES, found, found_at_points
    )
    weak = voc.rank(results, num_classes, error_analysis.WEAK_IOU)
    shown = [place for place, kind in enumerate(KINDS) if kind == "correct" or kind in costs]
    kinds = [KINDS[place] for place in shown]
    labels = np.concatenate([result.true_labels for result in results])
    return {
        "costs": figures.costs(
            list(costs), [mean_over_classes(values) for values in costs.values()]
        ),
        "kinds": figures.detection_kinds(
            PER_OBJECT,
            error_analysis.cumulative_shares(rankings, analysis, PER_OBJECT)[:, shown],
            kinds,
            error_analysis.recall_at(rankings, PER_OBJECT),
            error_analysis.recall_at(weak, PER_OBJECT),
        ),
        "false_positives": figures.false_positive_kinds(
            PER_OBJECT,
            error_analysis.false_positive_shares(rankings, analysis, PER_OBJECT)[:, shown[1:]],
            kinds[1:],
        ),
        "size": figures.recall_bars(by_size, "square root of the area in pixels"),
        "shape": figures.recall_bars(by_shape, "width : height"),
        "sensitivity": figures.sensitivity(
            error_analysis.sensitivity(results, rankings, sides),
            error_analysis.sensitivity(results, rankings, ratios),
        ),
        "confusion": figures.confusion_matrix(
            statistics.confusion(results, rankings, least), class_names
        ),
        "scores": figures.score_histogram(*statistics.counted_scores(rankings)),
        "calibration": figures.reliability(statistics.calibration(rankings)),
        "classes": figures.objects_per_class(
            class_names, np.bincount(labels, minlength=num_classes + 1)[1:].tolist()
        ),
        "sizes": figures.object_sizes(np.concatenate(sides)),
    }


def _describe_scores(
    results: Sequence[ImageResult], rankings: Sequence[Ranking], least: np.ndarray
) -> dict[str, Any]:
    """The numbers of detections at some scores, and the best score (or None)."""
    pairs = zip(rankings, least, strict=True)
    scores = np.concatenate([result.scores for result in results])
    return {
        "count": len(scores),
        "shown": int(np.sum(scores >= LEAST_SCORE)),
        "at_points": int(sum(np.sum(ranking.score >= score) for ranking, score in pairs)),
        "least": LEAST_SCORE,
        "best": float(scores.max()) if len(scores) else None,
    }


def _describe_data(results: Sequence[ImageResult]) -> dict[str, Any]:
    counts = np.array([len(result.true_labels) for result in results])
    heights, widths = np.array([result.size for result in results]).T
    return {
        "images": len(results),
        "objects": int(counts.sum()),
        "difficult": int(sum(result.difficult.sum() for result in results)),
        "crowds": int(sum(result.crowd.sum() for result in results)),
        "empty": int(np.sum(counts == 0)),
        "per_image": float(counts.mean()),
        "most": int(counts.max()),
        "widths": (int(widths.min()), int(np.median(widths)), int(widths.max())),
        "heights": (int(heights.min()), int(np.median(heights)), int(heights.max())),
    }
