"""The length of a run in steps, also if the config counts in epochs."""

import logging
import math
import re
import sys
from pathlib import Path

from ssd_jax.config.schema import Config
from ssd_jax.runs import agreement
from ssd_jax.runs.provenance import command

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


def longer_command(config: Config, field: str = "steps") -> str:
    """The command that continues this run for twice its length; "" if no command started it.

    Args:
      config: of the run.
      field: the field that ends it, `steps` or `patience`.
    """
    is_training = Path(sys.argv[0]).name == "train.py" or sys.argv[1:2] == ["train"]
    if not is_training:
        return ""
    field = "epochs" if field == "steps" and config.epochs else field
    twice = 2 * getattr(config, field)
    changed = rf"--?(config\.{field}=.*|change_config)"
    kept = [word for word in sys.argv[1:] if not re.fullmatch(changed, word)]
    value = f"{twice:g}" if isinstance(twice, float) else twice
    return command([*kept, f"--config.{field}={value}", "--change_config"])


def log_how_to_continue(config: Config, folder: Path, step: int) -> None:
    """Logs that a run has ended at a step, and how to continue it."""
    field = "steps" if step == config.steps else "patience"
    longer = longer_command(config, field) or f"raise config.{field}, with change_config=True"
    logger.info(
        "%s: this run has ended at step %d of %d; to train longer: %s",
        *(folder, step, config.steps, longer),
    )
