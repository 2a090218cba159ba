"""The length of a run in steps, also if the config counts in epochs."""

import logging
import math
from pathlib import Path

from ssd_jax.config.schema import Config
from ssd_jax.runs import agreement

logger = logging.getLogger(__name__)


def steps_of(config: Config, num_images: int) -> int:
    """The steps of a config, computed from its epochs if it counts in epochs."""
    if not config.epochs:
        return config.steps
    return max(1, math.ceil(config.epochs * num_images / config.batch_size))


def with_steps(config: Config, num_images: int, folder: Path) -> Config:
    """Sets the number of steps of a config that counts in epochs.

    Args:
      config: the config.
      num_images: the training images.
      folder: the work directory; a continued run keeps its steps, also if images were added or
        removed, because its schedule depends on them.
    """
    if not config.epochs:
        return config
    steps = steps_of(config, num_images)
    recorded, fields = agreement.recorded_config(folder), (config.epochs, config.batch_size)
    if recorded is not None and (recorded.epochs, recorded.batch_size) == fields:
        steps = recorded.steps
    return config.replace({"steps": steps})


def log_how_to_continue(config: Config, step: int) -> None:
    """Logs how to continue a run that has ended at a step."""
    field = "steps" if step == config.steps else "patience"
    logger.info(
        "the run has ended at step %d: to continue, raise config.%s, with --change_config",
        step,
        field,
    )
