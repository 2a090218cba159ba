"""Checks and describes changes of the config when a run continues."""

import logging
import os
from collections.abc import Sequence
from pathlib import Path

from ssd_jax.config.schema import Config, ModelConfig
from ssd_jax.errors import UserError
from ssd_jax.runs.workdir import flat_fields, read_config
from ssd_jax.training.optimizer import make_schedule

# Fields that decide the content of a checkpoint; of `ema`, only whether it is 0.
STAYING = ("optimizer", "freeze", "ema")
# The fields of the network that may change; its outputs belong to its default boxes.
CHANGING_OF_MODEL = ("precision",)
# Fields that are used only at the beginning of a run.
WITHOUT_EFFECT = {"init": "the run continues with its own weights"}

logger = logging.getLogger(__name__)


def check_can_continue(
    folder: Path, config: Config, saved: Sequence[int], change_config: bool
) -> None:
    """Checks that a run can continue with a config, and logs the changes.

    Args:
      folder: the work directory.
      config: the config.
      saved: the steps of its checkpoints; empty for a new run.
      change_config: whether the config may have changed.

    Raises:
      UserError: the run is beyond `config.steps`, or see `check_same_config`.
    """
    if saved and saved[-1] > config.steps:
        raise UserError(
            f"{folder} is at step {saved[-1]}, but config.steps is {config.steps}: set it to "
            f"{saved[-1]} or more, with --change_config if the run has another number, or name "
            "another work directory"
        )
    if not saved:
        return  # no step was trained with the recorded config, if there is one
    if not change_config:
        check_same_config(folder, config)
        return
    check_stays(folder, config)
    changes = describe_changes(folder, config, saved[-1])
    if changes:
        logger.info("%s", changes)


def check_same_config(folder: Path, config: Config) -> None:
    """Raises a `UserError` if a work directory belongs to a run with another config."""
    changes = _changes(folder, config)
    if changes:
        _check_same_folder(folder, config)
        raise UserError(
            f"{folder} holds a run with another config. This one would change "
            f"{_listed(changes)}: name another work directory, or add --change_config to continue "
            "with the changes (possible for all fields except the network, the optimiser, "
            "config.freeze, and whether config.ema is 0)"
        )


def _check_same_folder(folder: Path, config: Config) -> None:
    """Raises a `UserError` if the run has the data of another folder, which still exists."""
    before, now = read_config(folder).data.train, config.data.train
    if os.path.isdir(before) and os.path.realpath(before) != os.path.realpath(now):
        raise UserError(
            f"{folder} holds a run on other data, {before}, not {now}: name another work "
            f"directory, like --workdir={folder}_2"
        )


def check_stays(folder: Path, config: Config) -> None:
    """Raises a `UserError` if a config changes a field that is fixed for a run."""
    if not (folder / "config.json").is_file():
        return
    recorded, given = (
        flat_fields(read_config(folder).model_dump()),
        flat_fields(config.model_dump()),
    )
    of_model = set(ModelConfig.model_fields).difference(CHANGING_OF_MODEL)
    for name in (*STAYING, *(f"model.{field}" for field in sorted(of_model))):
        before, now = recorded[name], given[name]
        if bool(before) != bool(now) if name == "ema" else before != now:
            raise UserError(
                f"config.{name} is {now!r}, but the run in {folder} has {before!r}, which cannot "
                "change: keep it, or begin a run in another work directory with "
                f"config.init=run:{folder}"
            )


def describe_changes(folder: Path, config: Config, step: int) -> str:
    """Describes the changes of a run that continues with another config; "" if there are none."""
    changes = _changes(folder, config)
    if not changes:
        return ""
    before, now = (float(make_schedule(each)(step)) for each in (read_config(folder), config))
    told = f"from step {step} on: {_listed(changes)}"
    if before != now:
        told += f"; the learning rate of the next step is {now:.3g} instead of {before:.3g}"
    return told


def _changes(folder: Path, config: Config) -> list[str]:
    """The fields in which a config differs from the recorded one; empty without a recorded one."""
    if not (folder / "config.json").is_file():
        return []
    recorded = flat_fields(read_config(folder).model_dump(mode="json"))
    given = flat_fields(config.model_dump(mode="json"))
    return [
        f"config.{name} from {recorded[name]!r} to {given[name]!r}"
        + (f" (without effect: {WITHOUT_EFFECT[name]})" if name in WITHOUT_EFFECT else "")
        for name in sorted(given)
        if recorded[name] != given[name]
    ]


def _listed(changes: Sequence[str]) -> str:
    return f"{', '.join(changes[:8])}{', …' if len(changes) > 8 else ''}"
