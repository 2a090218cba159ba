"""How long a run is: the steps that its epochs take."""

import logging
import math
from pathlib import Path

from ssd_jax.config.schema import Config
from ssd_jax.runs import agreement

logger = logging.getLogger(__name__)


def steps_of(config: Config, num_images: int) -> int:
    """The steps of a config: those that its epochs take, if it counts in epochs."""
    if not config.epochs:
        return config.steps
    return max(1, math.ceil(config.epochs * num_images / config.batch_size))


def with_steps(config: Config, num_images: int, folder: Path) -> Config:
    """The config with as many steps as its epochs take, if it counts in epochs.

    Args:
      config: the config.
      num_images: the training images.
      folder: the work directory; a run that goes on there keeps its steps, also where images came
        or went, for its schedule depends on them.
    """
    if not config.epochs:
        return config
    steps = steps_of(config, num_images)
    recorded, fields = agreement.recorded_config(folder), (config.epochs, config.batch_size)
    if recorded is not None and (recorded.epochs, recorded.batch_size) == fields:
        steps = recorded.steps
    return config.replace({"steps": steps})


def tell_how_to_go_on(config: Config, step: int) -> None:
    """Tells what a run that has ended at a step would need to go on."""
    field = "steps" if step == config.steps else "patience"
    logger.info(
        "the run has ended at step %d: to go on, raise config.%s, with --change_config", step, field
    )
