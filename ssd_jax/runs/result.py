"""The result of a run, read from its work directory."""

import dataclasses
import math
import shlex
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ssd_jax.distributed import exchange
from ssd_jax.errors import counted
from ssd_jax.evaluation.uncertainty import describe_uncertainty, mean_ap_uncertainty
from ssd_jax.evaluation.weakest import Weakest
from ssd_jax.training.metrics_writer import read_metrics
from ssd_jax.training.run_checkpoints import RunCheckpoints

DIFFERENCE = 0.01  # difference of mAP from which an evaluation counts as better than another
RISEN = 1.1  # a loss on evaluation images counts as risen above this factor times the lowest one
HOLDS = 3  # number of last evaluations that must have a risen loss
FEWEST = 5  # minimum number of evaluations to estimate their scatter
MEDIAN_OF_NORMAL = 0.6745  # the median of the absolute value of a standard normal number
MORE_EVALUATION = (
    "evaluating on more images, because this mAP is too uncertain for comparisons "
    "(config.data.split, config.data.eval)"
)


@dataclasses.dataclass(frozen=True)
class TrainResult:
    """The result of a run.

    Attributes:
      workdir: the work directory.
      last_step: the step that the run ended at.
      metrics: by step, the content of `metrics.jsonl`: `train/loss`, `eval/mAP`, …; the mAP is None
        if the evaluation data has no object.
      best_step: the checkpoint with the highest mAP; None if none was evaluated.
      best_mean_ap: its mAP.
    """

    workdir: Path
    last_step: int
    metrics: dict[int, dict[str, float | None]] = dataclasses.field(repr=False)
    best_step: int | None
    best_mean_ap: float | None


def read_result(folder: Path, checkpoints: RunCheckpoints) -> TrainResult:
    """Reads the result of a run from its files; it is the same on all processes."""
    metrics: dict[int, dict[str, float | None]] = {}
    for line in exchange.from_main_process(read_metrics(folder)):
        values = {name: value for name, value in line.items() if name != "step"}
        metrics.setdefault(line["step"], {}).update(values)
    best = checkpoints.best()
    return TrainResult(
        workdir=folder,
        last_step=checkpoints.steps()[-1],
        metrics=metrics,
        best_step=best,
        best_mean_ap=None if best is None else metrics[best]["eval/mAP"],
    )


def describe_result(
    result: TrainResult,
    num_objects: Sequence[int] = (),
    weakest: Weakest | None = None,
    longer: str = "",
    missing: str = "",
) -> str:
    """Describes a result in a few lines: the best step, its uncertainty, and advice.

    Args:
      result: of the run.
      num_objects: of each class, in the evaluation data; empty if unknown.
      weakest: the weakest class; not used if the objects are few.
      longer: the command that trains with more steps; "" if there is none.
      missing: advice that comes first, about something that the run lacks; "" = none.

    Returns:
      The lines; only `missing` if the run was not evaluated.
    """
    mean_ap = _series(result, "eval/mAP")
    best = result.best_mean_ap
    first = [f"try next: {missing}"] if missing else []
    if best is None:
        return "\n".join(first)
    lines, advice = [], ""
    if len(mean_ap) > 1:
        lines = [f"best of {len(mean_ap)} evaluations: mAP {best:.4f} at step {result.best_step}"]
        course, advice = _course(result, mean_ap, num_objects)
        lines += course
    uncertain = describe_uncertainty(num_objects, best)
    if uncertain:
        lines.append(
            f"{uncertain}, and the best checkpoint was chosen on the same images, so it is "
            "probably too high"
        )
        advice = advice or MORE_EVALUATION
    elif weakest:
        lines.append(weakest.description)
        advice = advice or weakest.advice
    lines += first
    if advice:
        lines.append(f"try next: {advice}")
    if longer and "more steps" in advice:
        lines.append(f"  {longer}")
    return "\n".join(lines)


def next_commands(result: TrainResult, evaluates: bool, are_of_best: bool = True) -> str:
    """The last message of a run: the place of its files, and commands for its best checkpoint.

    Args:
      result: of the run.
      evaluates: whether it has evaluation data.
      are_of_best: whether pictures are of the best checkpoint; otherwise of the last evaluation.
    """
    run = f"--workdir={shlex.quote(str(result.workdir))}"
    commands = [f"ssd-jax predict {run} --output=detected path/to/images"]
    if evaluates:
        commands.append(f"ssd-jax evaluate {run} --report=report")
    commands.append(f"ssd-jax export {run} --to=onnx --output=deploy")
    done = f"done: checkpoints, metrics and pictures are in {result.workdir}"
    if evaluated := _series(result, "eval/mAP"):
        is_best = are_of_best or max(evaluated) == result.best_step
        drawn = f"step {result.best_step}, the best" if is_best else f"step {max(evaluated)}"
        done += f"; pictures/detections.png is of {drawn}"
    return "\n".join(
        [
            done,
            "commands for this run:",
            *(f"  {command}" for command in commands),
        ]
    )


def _series(result: TrainResult, name: str) -> dict[int, float]:
    """One of the metrics by step, ascending."""
    return {
        step: value
        for step, values in sorted(result.metrics.items())
        if (value := values.get(name)) is not None
    }


def _course(
    result: TrainResult, mean_ap: dict[int, float], num_objects: Sequence[int]
) -> tuple[list[str], str]:
    """Describes a run that was too long or too short, in lines, with an advice or "".

    Differences of the mAP within its uncertainty, and within the scatter of the evaluations, give
    no verdict.

    Args:
      result: of the run.
      mean_ap: of each evaluation, two or more.
      num_objects: of each class, in the evaluation data; empty if unknown.
    """
    *_, before, last = mean_ap.values()
    best = max(mean_ap.values())
    uncertainty = mean_ap_uncertainty(num_objects, best)
    limit = max(DIFFERENCE, uncertainty, 2 * scatter(list(mean_ap.values())))
    losses = _series(result, "eval/loss")
    first_loss, last_loss = (losses.get(step or 0) for step in (result.best_step, max(mean_ap)))
    is_loss_lower = first_loss is not None and last_loss is not None and last_loss < first_loss
    told = f"the last, at step {result.last_step}, has {last:.4f}"
    if best - last > limit and not is_loss_lower:
        advice = "fewer steps, more images or stronger augmentation"
        return [f"{told}: longer training made it worse"], advice
    if last - before > limit:
        rise = f"by {last - before:.4f} since the evaluation before"
        return [f"the mAP was still rising, {rise}"], "more steps"
    lines = []
    if DIFFERENCE < best - last <= uncertainty:
        told += f": with {counted(sum(num_objects), 'object')} such a difference may be chance"
        lines = [told]
    if best - last > DIFFERENCE and is_loss_lower:
        lines = [
            f"{told}; but its loss on the evaluation images is lower ({last_loss:.3f}, not "
            f"{first_loss:.3f}), so it may be the better one: try both on other images, the last "
            "with --checkpoint=last"
        ]
    overfitting = _overfitting(losses)
    if overfitting:
        return [*lines, overfitting], "more images or stronger augmentation"
    return lines, ""


def _overfitting(losses: dict[int, float]) -> str:
    """Describes a loss on evaluation images that has risen for long; "" if it has not."""
    if len(losses) < FEWEST:
        return ""
    lowest = min(losses, key=lambda step: losses[step])
    values = list(losses.values())
    risen = max(RISEN * losses[lowest], losses[lowest] + 3 * scatter(values))
    if min(values[-HOLDS:]) <= risen:
        return ""
    return (
        f"overfitting since step {lowest}: the loss on evaluation images has risen from "
        f"{losses[lowest]:.3f} to {values[-1]:.3f}"
    )


def scatter(values: Sequence[float]) -> float:
    """The standard deviation of a series of evaluations around its trend.

    It is estimated from second differences, which a linear trend does not change. The second
    differences of independent numbers have 6 times their variance. The median limits outliers.

    Args:
      values: in order.

    Returns:
      0 for fewer than `FEWEST` values, which are too few for an estimate.
    """
    if len(values) < FEWEST:
        return 0.0
    median = float(np.median(np.abs(np.diff(values, n=2))))
    return median / (MEDIAN_OF_NORMAL * math.sqrt(6))
