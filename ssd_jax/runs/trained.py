"""The trained detector of a work directory."""

import logging
from pathlib import Path

from ml_collections import ConfigDict

from ssd_jax.config.schema import Config, as_config
from ssd_jax.distributed import exchange
from ssd_jax.interop.trained import Trained, names_and_ids
from ssd_jax.models.network import build_network
from ssd_jax.runs import workdir
from ssd_jax.runs.stores import run_copy
from ssd_jax.runs.which_checkpoint import WhichCheckpoint
from ssd_jax.storage.files import AnyPath
from ssd_jax.training.checkpoints import Checkpoints
from ssd_jax.training.metrics_writer import read_metrics

logger = logging.getLogger(__name__)


def load_workdir(
    place: AnyPath, checkpoint: WhichCheckpoint = "best", config: Config | ConfigDict | None = None
) -> Trained:
    """Loads a checkpoint of a run.

    Args:
      place: the work directory.
      checkpoint: its step, "best" (by mAP) or "last"; without an evaluation, "best" is the last.
      config: of the run; None = the one that the work directory records.

    Raises:
      UserError: the folder is not the work directory of a run, or a later version wrote it.
    """
    folder = run_copy(place)
    classes = workdir.read_classes(folder)
    config = workdir.read_config(folder) if config is None else as_config(config)
    network = build_network(config.model, len(classes))
    checkpoints = Checkpoints(folder / "checkpoints", read_only=True)
    variables = checkpoints.restore_model(
        *network.variable_shapes(),
        step=_chosen_step(checkpoints, folder, checkpoint),
        averages=config.ema > 0,
    )
    checkpoints.close()
    return Trained(network, variables, *names_and_ids(classes), config)


def read_evaluation(place: AnyPath, checkpoint: WhichCheckpoint = "best") -> dict[str, float]:
    """The metrics of a checkpoint by name, like `mAP`; empty if it was not evaluated.

    Args:
      place: the work directory.
      checkpoint: see `load_workdir`.
    """
    folder, step = run_copy(place), chosen_step(place, checkpoint)
    return {
        name.removeprefix("eval/"): value
        for line in read_metrics(folder)
        for name, value in line.items()
        if line["step"] == step and name.startswith("eval/") and value is not None
    }


def chosen_step(place: AnyPath, checkpoint: WhichCheckpoint = "best") -> int:
    """The step of the checkpoint that `load_workdir` loads."""
    folder = run_copy(place)
    checkpoints = Checkpoints(folder / "checkpoints", read_only=True)
    step = _step(checkpoints, folder, checkpoint)
    step = checkpoints.steps()[-1] if step is None else step
    checkpoints.close()
    return step


def _chosen_step(checkpoints: Checkpoints, folder: Path, which: WhichCheckpoint) -> int | None:
    """The step of a checkpoint; None for the last. Logs a step that is not the last."""
    step = _step(checkpoints, folder, which)
    if which == "best" and step is not None and step != checkpoints.steps()[-1]:
        logger.info(
            "%s: the checkpoint of step %d, the best with mAP %.4f (--checkpoint=last: step %d)",
            *(folder, step, _evaluated(folder)[step], checkpoints.steps()[-1]),
        )
    return step


def _step(checkpoints: Checkpoints, folder: Path, which: WhichCheckpoint) -> int | None:
    """The step of a checkpoint; None for the last."""
    if which == "last":
        return None
    if which != "best":
        return which
    for step, mean_ap in _evaluated(folder).items():
        if mean_ap is not None:
            checkpoints.rate(step, mean_ap)
    return checkpoints.best()


def _evaluated(folder: Path) -> dict[int, float | None]:
    """The result of `read_evaluations` in the main process, which writes the metrics."""
    return dict(exchange.from_main_process(read_evaluations(folder)))


def read_evaluations(folder: Path) -> list[tuple[int, float | None]]:
    """Step and mAP of each evaluation of a run; the mAP is None if the data has no objects."""
    return [
        (line["step"], line.get("eval/mAP"))
        for line in read_metrics(folder)
        if any(name.startswith("eval/") for name in line)
    ]
