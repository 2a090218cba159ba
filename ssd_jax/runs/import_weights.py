"""Imports weights of other programs into new work directories."""

import logging
from collections.abc import Sequence
from pathlib import Path

import optax
from ml_collections import ConfigDict

from ssd_jax.config.schema import Config, as_config
from ssd_jax.data.class_lists import category_ids
from ssd_jax.data.classes import check_class_list
from ssd_jax.distributed import devices
from ssd_jax.errors import UserError
from ssd_jax.interop.formats import FORMATS, Foreign, read_format
from ssd_jax.interop.transfer import (
    Classes,
    Transfer,
    format_transfer,
    summarise_transfer,
    transfer,
)
from ssd_jax.models.network import build_network
from ssd_jax.runs import workdir
from ssd_jax.storage.clouds import is_remote
from ssd_jax.storage.copies import sending
from ssd_jax.storage.files import AnyPath, local_path, write_json, write_text
from ssd_jax.storage.outputs import check_outputs
from ssd_jax.training.checkpoints import Checkpoints
from ssd_jax.training.state import initial_state

logger = logging.getLogger(__name__)


def import_weights(
    kind: str,
    file: str,
    config: Config | ConfigDict,
    output: AnyPath,
    *,
    class_names: Sequence[str] = (),
    partial: bool = False,
) -> None:
    """Makes a work directory from a file of weights.

    Args:
      kind: one of `FORMATS`.
      file: see `read_format`.
      config: describes the network.
      output: the work directory to make.
      class_names: the classes of the weights, in order; empty = those of the config, or else those
        of VOC or COCO, whichever has this number of classes.
      partial: whether tensors may be missing, left over, or of another shape.

    Raises:
      UserError: the config is wrong, the file cannot be read or does not fit, or the work directory
        exists.
    """
    config = as_config(config)
    if kind not in FORMATS:
        raise UserError(f"--from is {kind!r}, but must be one of {', '.join(FORMATS)}")
    check_outputs(output, also_remote=True)
    if not is_remote(output) and (local_path(output) / "classes.json").exists():
        raise UserError(f"{output} holds a run already: name another folder")
    check_class_list(class_names, "--classes")
    check_class_list(config.data.class_names)
    class_names = class_names or config.data.class_names
    foreign = read_format(kind, file, build_network(config.model, 1), class_names)
    class_names = foreign.class_names
    network = build_network(config.model, len(class_names))
    result = transfer(
        network.init(config.seed),
        foreign.arrays,
        Classes(class_names, class_names),
        network.tiling.boxes_per_cell,
    )
    listed = _describe_mismatch(foreign, result)
    if not result.num_filled:
        raise UserError(f"{file} holds nothing of the network that the config describes: {listed}")
    if listed and not partial:
        raise UserError(
            f"{file} does not fit the network that the config describes; import a part with "
            f"--partial: {listed}"
        )

    with sending(output, last="format.json") as folder:
        _write(folder, config, class_names, result._replace(unused=foreign.left_over))


def _describe_mismatch(foreign: Foreign, result: Transfer) -> str:
    """The tensors that are missing, left over or of another shape; "" if all fit."""
    mismatches = {
        "missing": foreign.missing,
        "of another shape": [
            f"{name} ({'×'.join(map(str, shape))}; {status.removeprefix('new: ')})"
            for name, shape, status in result.statuses
            if status.startswith("new: in the weights")
        ],
        "left over": foreign.left_over,
    }
    return "; ".join(f"{what}: {', '.join(names)}" for what, names in mismatches.items() if names)


def _write(folder: Path, config: Config, class_names: Sequence[str], result: Transfer) -> None:
    """Writes a work directory with a checkpoint of step 0."""
    workdir.record_run(folder, config, class_names, category_ids(class_names))
    write_text(folder / "weights.txt", format_transfer(result) + "\n")
    filled = [name for name, _, status in result.statuses if not status.startswith("new: ")]
    write_json(folder / "imported.json", filled)
    state = initial_state(*result.variables, optax.identity())
    checkpoints = Checkpoints(folder / "checkpoints")
    checkpoints.save(devices.replicate(state))
    checkpoints.close()
    summary = summarise_transfer(result)
    logger.info("%s\n%s: %d arrays imported", summary, folder, result.num_filled)
