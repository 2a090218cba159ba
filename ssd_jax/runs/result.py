"""What a run has reached, read from its work directory."""

import dataclasses
from pathlib import Path

from ssd_jax.distributed import exchange
from ssd_jax.training.checkpoints import Checkpoints
from ssd_jax.training.metrics_writer import read_metrics


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


def read_result(folder: Path, last_step: int, checkpoints: Checkpoints) -> TrainResult:
    """The result of a run, read from its files; the same on all processes."""
    metrics: dict[int, dict[str, float | None]] = {}
    for line in exchange.from_main_process(read_metrics(folder)):
        values = {name: value for name, value in line.items() if name != "step"}
        metrics.setdefault(line["step"], {}).update(values)
    best = checkpoints.best()
    return TrainResult(
        workdir=folder,
        last_step=last_step,
        metrics=metrics,
        best_step=best,
        best_mean_ap=None if best is None else metrics[best]["eval/mAP"],
    )


def read_evaluations(folder: Path) -> list[tuple[int, float | None]]:
    """Step and mAP of each evaluation that a run has done."""
    return [
        (line["step"], line.get("eval/mAP"))
        for line in read_metrics(folder)
        if any(name.startswith("eval/") for name in line)
    ]
