"""The result of a run, read from its work directory."""

import dataclasses
import math
import shlex
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ssd_jax.distributed import exchange
from ssd_jax.evaluation.uncertainty import describe_uncertainty
from ssd_jax.evaluation.weakest import Weakest
from ssd_jax.training.metrics_writer import read_metrics
from ssd_jax.training.run_checkpoints import RunCheckpoints

DIFFERENCE = 0.01  # difference of mAP from which an evaluation counts as better than another
CHANCE = 0.3  # the same for few objects, divided by the square root of their number
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
    result: TrainResult, num_objects: Sequence[int] = (), weakest: Weakest | None = None
) -> str:
    """Describes a result in a few lines: the best step, its uncertainty, and one advice.

    Args:
      result: of the run.
      num_objects: of each class, in the evaluation data; empty if unknown.
      weakest: the weakest class; not used if the objects are few.

    Returns:
      The lines; "" if the run was not evaluated.
    """
    mean_ap = _series(result, "eval/mAP")
    best = result.best_mean_ap
    if best is None:
        return ""
    lines, advice = [], ""
    if len(mean_ap) > 1:
        lines = [f"best of {len(mean_ap)} evaluations: mAP {best:.4f} at step {result.best_step}"]
        course, advice = _course(result, mean_ap, sum(num_objects))
        lines += filter(None, [course])
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
    return "\n".join([*lines, *([f"try next: {advice}"] if advice else [])])


def next_commands(result: TrainResult, evaluates: bool) -> str:
    """The last message of a run: the place of its files, and commands for its best checkpoint.

    Args:
      result: of the run.
      evaluates: whether it has evaluation data.
    """
    run = f"--workdir={shlex.quote(str(result.workdir))}"
    commands = [f"ssd-jax predict {run} --output=detected path/to/images"]
    if evaluates:
        commands.append(f"ssd-jax evaluate {run} --report=report")
    commands.append(f"ssd-jax export {run} --to=onnx --output=deploy")
    return "\n".join(
        [
            f"done: checkpoints, metrics and pictures are in {result.workdir}",
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


def _course(result: TrainResult, mean_ap: dict[int, float], num_objects: int) -> tuple[str, str]:
    """Describes a run that was too long or too short, with an advice; both "" if it was neither.

    Args:
      result: of the run.
      mean_ap: of each evaluation, two or more.
      num_objects: in the evaluation data; 0 = unknown.
    """
    *_, before, last = mean_ap.values()
    best = max(mean_ap.values())
    chance = CHANCE / math.sqrt(num_objects) if num_objects else 0.0
    difference = max(DIFFERENCE, chance, 2 * scatter(list(mean_ap.values())))
    if best - last > difference:
        problem = (
            f"the last, at step {result.last_step}, has {last:.4f}: longer training made it worse"
        )
        return problem, "fewer steps, more images or stronger augmentation"
    if last - before > difference:
        rise = f"by {last - before:.4f} since the evaluation before"
        return f"the mAP was still rising, {rise}", "more steps"
    losses = _series(result, "eval/loss")
    if len(losses) < FEWEST:
        return "", ""
    lowest = min(losses, key=lambda step: losses[step])
    values = list(losses.values())
    risen = max(RISEN * losses[lowest], losses[lowest] + 3 * scatter(values))
    if min(values[-HOLDS:]) > risen:
        problem = (
            f"overfitting since step {lowest}: the loss on evaluation images has risen from "
            f"{losses[lowest]:.3f} to {values[-1]:.3f}"
        )
        return problem, "more images or stronger augmentation"
    return "", ""


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
