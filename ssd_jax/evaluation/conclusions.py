"""The sentences at the top of a report: the uncertainty of the mAP, the weakest class, advice."""

from collections.abc import Sequence
from typing import Any, NamedTuple

from ssd_jax.errors import counted
from ssd_jax.evaluation.metric import IOU_THRESHOLD
from ssd_jax.evaluation.ranking import Average
from ssd_jax.evaluation.results import ImageResult
from ssd_jax.evaluation.uncertainty import describe_uncertainty, mean_ap_uncertainty
from ssd_jax.evaluation.weakest import describe_weakest


class Conclusion(NamedTuple):
    """A sentence of the summary, without its full stop, and a command that belongs to it or ""."""

    text: str
    command: str = ""


def conclude(
    results: Sequence[ImageResult],
    class_names: Sequence[str],
    summary: dict[str, Any],
    average: Average,
    image_size: int | None,
    of_run: str = "",
) -> list[Conclusion]:
    """Sentences on the uncertainty of the mAP, the weakest class if objects are many, and advice.

    Args:
      results: the images.
      class_names: class i + 1 is called `class_names[i]`.
      summary: from `summarise`.
      average: of the metric, "voc07" or "voc"; see `Metric`.
      image_size: side of the network's input, in pixels; None if unknown.
      of_run: lines about the run, with its advice, and its uncertainty if objects are few; a line
        that begins with spaces is a command; "" = the advice follows from the results.
    """
    num_objects, mean_ap = [*summary["num_objects"].values()], summary["mAP"]
    if mean_ap is None:
        return [Conclusion("The data has no object to find, so there is no mAP")]
    few = describe_uncertainty(num_objects, mean_ap)
    points = max(1, round(100 * mean_ap_uncertainty(num_objects, mean_ap)))
    uncertain = Conclusion(
        f"The mAP is uncertain by about ±{points} points, because it is measured on "
        f"{counted(sum(num_objects), 'object')}: smaller differences may be chance"
    )
    if of_run:  # its advice is another one if it was too short or too long
        return _conclusions(of_run) if few else [uncertain, *_conclusions(of_run)]
    if few:
        advice = "evaluate on more images, because this mAP is too uncertain for comparisons"
        return _conclusions(f"{few}\ntry next: {advice}")
    iou_threshold = summary.get("iou_threshold", IOU_THRESHOLD)
    weakest = describe_weakest(results, class_names, image_size, average, iou_threshold)
    if weakest is None:
        return [uncertain]
    return [uncertain, *_conclusions(f"{weakest.description}\ntry next: {weakest.advice}")]


def _conclusions(lines: str) -> list[Conclusion]:
    """Lines as sentences; a line that begins with spaces is the command of the one before."""
    found: list[Conclusion] = []
    for line in lines.splitlines():
        if line.startswith(" "):
            found[-1] = Conclusion(found[-1].text.removesuffix(":"), line.strip())
        else:
            found.append(Conclusion(line[0].upper() + line[1:]))
    return found
