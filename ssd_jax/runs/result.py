"""What a run has reached, read from its work directory."""

import dataclasses
from pathlib import Path

from ssd_jax.distributed import exchange
from ssd_jax.training.checkpoints import Checkpoints
from ssd_jax.training.metrics_writer import read_metrics

DIFFERENCE = 0.01  # of mAP, from which one evaluation counts as better than another


@dataclasses.dataclass(frozen=True)
class TrainResult:
    """The result of a run.

    Attributes:
      workdir: the work directory.
      last_step: the step that the run ended at.
      metrics: by step, what `metrics.jsonl` holds: `train/loss`, `eval/mAP`, …; the mAP is None
        where there was nothing to find.
      best_step: the checkpoint with the highest mAP; None where none was evaluated.
      best_mean_ap: its mAP.
    """

    workdir: Path
    last_step: int
    metrics: dict[int, dict[str, float | None]]
    best_step: int | None
    best_mean_ap: float | None


def read_result(folder: Path, checkpoints: Checkpoints) -> TrainResult:
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


def describe_result(result: TrainResult) -> str:
    """What a run has reached, in a few lines: the best step, and what to do next."""
    done = f"done: checkpoints, metrics and pictures are in {result.workdir}"
    mean_ap = {
        step: value
        for step, values in result.metrics.items()
        if (value := values.get("eval/mAP")) is not None
    }
    best = result.best_mean_ap
    if best is None or len(mean_ap) < 2:
        return done
    *_, before, last = (value for _, value in sorted(mean_ap.items()))
    lines = [f"best of {len(mean_ap)} evaluations: mAP {best:.4f} at step {result.best_step}"]
    if best - last > DIFFERENCE:
        lines.append(
            f"the last, at step {result.last_step}, has {last:.4f}: longer training made it worse; "
            f"detect with --checkpoint={result.best_step}, train with fewer steps or more images"
        )
    elif last - before > DIFFERENCE:
        lines.append(
            f"the mAP was still rising, by {last - before:.4f} since the evaluation before: more "
            "steps may bring more"
        )
    return "\n".join([*lines, done])
