"""The result of a run, read from its work directory."""

import dataclasses
import math
from pathlib import Path

from ssd_jax.distributed import exchange
from ssd_jax.training.metrics_writer import read_metrics
from ssd_jax.training.run_checkpoints import RunCheckpoints

DIFFERENCE = 0.01  # difference of mAP from which an evaluation counts as better than another
CHANCE = 0.3  # the same for few objects, divided by the root of their number
RISEN = 1.1  # factor on the lowest loss on evaluation images from which a loss counts as risen


@dataclasses.dataclass(frozen=True)
class TrainResult:
    """The result of a run.

    Attributes:
      workdir: the work directory.
      last_step: the step that the run ended at.
      metrics: by step, what `metrics.jsonl` holds: `train/loss`, `eval/mAP`, …; the mAP is None
        where there was nothing to find.
      best_step: the checkpoint with the highest mAP; None if none was evaluated.
      best_mean_ap: its mAP.
    """

    workdir: Path
    last_step: int
    metrics: dict[int, dict[str, float | None]] = dataclasses.field(repr=False)
    best_step: int | None
    best_mean_ap: float | None


def read_result(folder: Path, checkpoints: RunCheckpoints) -> TrainResult:
    """The result of a run, read from its files; the same on all processes."""
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


def describe_result(result: TrainResult, num_objects: int = 0, weakest: str = "") -> str:
    """Describes a result in a few lines: the best step, and advice.

    Args:
      result: of the run.
      num_objects: in the evaluation data; 0 = unknown.
      weakest: from `describe_weakest`.
    """
    done = f"done: checkpoints, metrics and pictures are in {result.workdir}"
    mean_ap = _series(result, "eval/mAP")
    best = result.best_mean_ap
    if best is None or len(mean_ap) < 2:
        return "\n".join([line for line in (weakest, done) if line])
    lines = [f"best of {len(mean_ap)} evaluations: mAP {best:.4f} at step {result.best_step}"]
    chance = CHANCE / math.sqrt(num_objects) if num_objects else 0.0
    lines += _course(result, mean_ap, max(DIFFERENCE, chance))
    return "\n".join([*lines, *filter(None, [weakest]), done])


def _series(result: TrainResult, name: str) -> dict[int, float]:
    """One of the metrics by step, ascending."""
    return {
        step: value
        for step, values in sorted(result.metrics.items())
        if (value := values.get(name)) is not None
    }


def _course(result: TrainResult, mean_ap: dict[int, float], difference: float) -> list[str]:
    """Whether the run was too long or too short, in at most one line.

    Args:
      result: of the run.
      mean_ap: of each evaluation, two or more.
      difference: of mAP, up to which it may be random.
    """
    *_, before, last = mean_ap.values()
    best = max(mean_ap.values())
    val_loss, train_loss = _series(result, "eval/loss"), _series(result, "train/loss")
    if best - last > difference:
        return [
            f"the last, at step {result.last_step}, has {last:.4f}: longer training made it worse; "
            "try fewer steps, more images or stronger augmentation"
        ]
    if last - before > difference:
        return [
            f"the mAP was still rising, by {last - before:.4f} since the evaluation before: more "
            "steps may bring more"
        ]
    if len(val_loss) < 2 or not train_loss:
        return []
    *_, last_val = val_loss.values()
    lowest = min(val_loss, key=lambda step: val_loss[step])
    if last_val > RISEN * val_loss[lowest]:
        return [
            f"overfitting since step {lowest}: the loss on evaluation images has risen from "
            f"{val_loss[lowest]:.3f} to {last_val:.3f}; try more images or stronger augmentation"
        ]
    return []
