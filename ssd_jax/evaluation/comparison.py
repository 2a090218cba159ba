"""Compares detectors: differences of AP with confidence intervals."""

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ssd_jax.evaluation import voc
from ssd_jax.evaluation.metric import IOU_THRESHOLD
from ssd_jax.evaluation.metrics import METRICS
from ssd_jax.evaluation.ranking import Average, Ranking, average_precision, best_f1
from ssd_jax.evaluation.results import ImageResult
from ssd_jax.evaluation.statistics import count_false, found_objects, thresholds
from ssd_jax.progress import progress_bar

LETTERS = "ABCDEFGHIJ"  # the names of the detectors in tables
MOST_COMPARED = len(LETTERS)
NUM_SAMPLES = 1000
INTERVAL = (2.5, 97.5)  # percent
CHUNK = 2_000_000  # numbers in memory at a time


def compare(
    names: Sequence[str],
    candidates: Sequence[Sequence[ImageResult]],
    class_names: Sequence[str],
    metric: str = "voc07",
    metric_iou_threshold: float = IOU_THRESHOLD,
    file_names: Mapping[str, str] | None = None,
) -> dict[str, Any]:
    """Compares several detectors with the first one, on the same images.

    Confidence intervals come from the bootstrap: the images are sampled with replacement 1,000
    times, with the same samples for all detectors. The interval contains 95 % of the differences.

    Args:
      names: of the detectors.
      candidates: for each detector the results of the same images, in the same order.
      class_names: class i + 1 is called `class_names[i]`.
      metric: of `METRICS`.
      metric_iou_threshold: IoU that a match must exceed, for metrics without own thresholds, and
        for counting found objects in an image.
      file_names: captions of the images by image id; None = the image ids.

    Returns:
      `metric`, `iou_threshold`, `names`, `num_images`; `classes`, a list of rows with `name`, `AP`
      (one per detector; None without objects) and for each detector except the first `difference`,
      `low` and `high`; `mAP`, a row of the same form; and `images`, for each detector except the
      first the images with other results, those with the most changes first: `image_id`,
      `file_name`, `found` and `false` before and after, at each detector's operating points.
    """
    num_classes = len(class_names)
    rank, average = METRICS[metric].rank, METRICS[metric].average
    values, samples = _bootstrap(
        [rank(results, num_classes, metric_iou_threshold)["all"] for results in candidates],
        average,
    )
    states = [
        _by_image(results, voc.rank(results, num_classes, metric_iou_threshold))
        for results in candidates
    ]
    changed = [_changed_images(candidates[0], states[0], state) for state in states[1:]]
    for image in itertools.chain(*changed):
        image["file_name"] = (file_names or {}).get(image["image_id"], image["image_id"])
    return {
        "metric": metric,
        "iou_threshold": metric_iou_threshold,
        "names": list(names),
        "num_images": len(candidates[0]),
        "mAP": _mean_row(values, samples),
        "classes": [_row(name, values[:, j], samples[:, j]) for j, name in enumerate(class_names)],
        "images": changed,
    }


def _bootstrap(
    rankings: Sequence[Sequence[Ranking]], average: Average
) -> tuple[np.ndarray, np.ndarray]:
    """AP of every detector and class `[detectors, classes]`; of resampled images `[…, samples]`."""
    num_classes, num_images = len(rankings[0]), len(rankings[0][0].num_objects)
    drawn = np.random.default_rng(0).multinomial(
        num_images, np.full(num_images, 1 / num_images), NUM_SAMPLES
    )
    values = np.full((len(rankings), num_classes), np.nan)
    samples = np.full((len(rankings), num_classes, NUM_SAMPLES), np.nan)
    pairs = [(i, j) for j in range(num_classes) for i in range(len(rankings))]
    for i, j in progress_bar(pairs, total=len(pairs), desc="bootstrap", unit="class", leave=False):
        values[i, j] = average_precision(rankings[i][j], average)
        samples[i, j] = _resampled(rankings[i][j], average, drawn)
    return values, samples


def _resampled(ranking: Ranking, average: Average, drawn: np.ndarray) -> np.ndarray:
    """`[samples]`: AP of one class on resampled images; `drawn` counts each image of a sample."""
    # Detections after the last true positive do not change AP.
    right = np.flatnonzero(ranking.right.any(axis=0))
    end = right[-1] + 1 if len(right) else 0
    ranking = ranking._replace(
        **{key: getattr(ranking, key)[:end] for key in ("image", "index", "score")},
        **{key: getattr(ranking, key)[:, :end] for key in ("right", "wrong", "object")},
    )
    step = max(1, CHUNK // max(1, ranking.right.size))
    parts = [
        average_precision(ranking, average, drawn[start : start + step])
        for start in range(0, len(drawn), step)
    ]
    return np.concatenate(parts)


def _row(name: str, values: np.ndarray, samples: np.ndarray) -> dict[str, Any]:
    """AP of each detector `[detectors]`, and its differences from `[detectors, samples]`."""
    if np.isnan(values).any():
        nothing = [None] * (len(values) - 1)
        return {
            "name": name,
            "AP": [None] * len(values),
            "difference": nothing,
            "low": nothing,
            "high": nothing,
        }
    low, high = np.nanpercentile(samples[1:] - samples[0], INTERVAL, axis=1)
    return {
        "name": name,
        "AP": values.tolist(),
        "difference": (values[1:] - values[0]).tolist(),
        "low": low.tolist(),
        "high": high.tolist(),
    }


def _mean_row(values: np.ndarray, samples: np.ndarray) -> dict[str, Any]:
    """mAP of each detector: the mean over the classes with objects; None without objects."""
    present = ~np.isnan(values[0])
    if not present.any():
        return _row("mAP", np.full(len(values), np.nan), samples)
    # If a sample has no object of a class, the mean leaves the class out.
    sampled = np.nanmean(samples[:, present], axis=1)
    return _row("mAP", values[:, present].mean(axis=1), sampled)


def _by_image(
    results: Sequence[ImageResult], rankings: Sequence[Ranking]
) -> list[tuple[np.ndarray, int]]:
    """For each image, the found objects and the number of false positives."""
    least = thresholds([best_f1(ranking) for ranking in rankings])
    false = count_false(results, rankings, least)
    found = found_objects(results, rankings, least)
    return list(zip(found, false.tolist(), strict=True))


def _changed_images(
    results: Sequence[ImageResult],
    before: Sequence[tuple[np.ndarray, int]],
    after: Sequence[tuple[np.ndarray, int]],
) -> list[dict[str, Any]]:
    changed = []
    for result, (found, false), (now_found, now_false) in zip(results, before, after, strict=True):
        if (found != now_found).any() or false != now_false:
            changed.append(
                {
                    "image_id": result.image_id,
                    "found": [int(found.sum()), int(now_found.sum())],
                    "false": [false, now_false],
                    "changes": int(np.sum(found != now_found)) + abs(now_false - false),
                }
            )
    return sorted(changed, key=lambda image: -image["changes"])


def has_significant(comparison: dict[str, Any]) -> bool:
    """Whether the interval of any difference in a comparison excludes zero."""
    rows = [*comparison["classes"], comparison["mAP"]]
    pairs = [pair for row in rows for pair in zip(row["low"], row["high"], strict=True)]
    return any(low is not None and (low > 0 or high < 0) for low, high in pairs)


def format_comparison(comparison: dict[str, Any]) -> str:
    """The comparison as a table to print."""
    names = comparison["names"]
    lines = [f"{letter}: {name}" for letter, name in zip(LETTERS, names, strict=False)]
    rows = [*comparison["classes"], comparison["mAP"]]
    width = max(len(row["name"]) for row in rows)
    heads = ["     A", *(f"{letter:>6}  {letter} - A, 95 %" for letter in LETTERS[1:])]
    head = "".join(f"{title:<26}" if i else title for i, title in enumerate(heads[: len(names)]))
    lines.append(f"{'':<{width}}  {head}".rstrip())
    for row in rows:
        cells = []
        for i, value in enumerate(row["AP"]):
            if value is None:
                cells.append(f"{'–':>6}" + " " * 20 * (i > 0))
                continue
            cell = f"{value:6.4f}"
            if i:
                low, high = row["low"][i - 1], row["high"][i - 1]
                sure = "*" if low > 0 or high < 0 else " "
                cell += f"  {row['difference'][i - 1]:+.3f}{sure}[{low:+.3f}, {high:+.3f}]"
            cells.append(cell)
        lines.append(f"{row['name']:<{width}}  {'  '.join(cells)}".rstrip())
    if has_significant(comparison):
        lines.append("* the 95 % interval of the difference excludes zero")
    for name, images in zip(names[1:], comparison["images"], strict=True):
        lines.append(f"{name}: {len(images)} of {comparison['num_images']} images differ")
        for image in images[:10]:
            (found, now_found), (false, now_false) = image["found"], image["false"]
            told = f"found {found} -> {now_found}, false {false} -> {now_false}"
            lines.append(f"  {image['file_name']}: {told}")
    return "\n".join(lines)
