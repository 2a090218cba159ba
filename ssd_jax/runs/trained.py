"""The trained detector of a work directory."""

from ml_collections import ConfigDict

from ssd_jax.config.schema import Config, as_config
from ssd_jax.interop.trained import Trained, names_and_ids
from ssd_jax.models.network import build_network
from ssd_jax.runs import workdir
from ssd_jax.storage.files import AnyPath, local_path
from ssd_jax.training.checkpoints import Checkpoints


def load_workdir(
    place: AnyPath, step: int | None = None, config: Config | ConfigDict | None = None
) -> Trained:
    """A checkpoint of a run.

    Args:
      place: the work directory.
      step: which checkpoint; the last one where None.
      config: of the run; the one that the work directory records where None.

    Raises:
      UserError: the folder is not the work directory of a run, or a later version wrote it.
    """
    folder = local_path(place)
    classes = workdir.read_classes(folder)
    config = workdir.read_config(folder) if config is None else as_config(config)
    network = build_network(config.model, len(classes))
    checkpoints = Checkpoints(folder / "checkpoints", read_only=True)
    variables = checkpoints.restore_model(
        *network.variable_shapes(), step=step, averages=config.ema > 0
    )
    checkpoints.close()
    return Trained(network, variables, *names_and_ids(classes), config)
