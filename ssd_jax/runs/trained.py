"""The trained detector of a work directory."""

from pathlib import Path
from typing import Any

from ssd_jax.interop.trained import Trained, build_saved, names_and_ids
from ssd_jax.runs import workdir
from ssd_jax.training.checkpoints import Checkpoints


def load_workdir(folder: Path, step: int | None = None, config: Any = None) -> Trained:
    """A checkpoint of a run.

    Args:
      folder: the work directory.
      step: which checkpoint; the last one where None.
      config: of the run; the one that the work directory records where None.

    Raises:
      UserError: the folder is not the work directory of a run, or is of another version.
    """
    classes = workdir.read_classes(folder)
    config = workdir.read_config(folder) if config is None else config
    network = build_saved(config, len(classes), folder)
    checkpoints = Checkpoints(folder / "checkpoints", read_only=True)
    variables = checkpoints.restore_model(
        *network.variable_shapes(), step=step, averages=config.ema > 0
    )
    checkpoints.close()
    return Trained(network, variables, *names_and_ids(classes), config)
