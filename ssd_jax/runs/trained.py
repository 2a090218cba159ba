"""Trained detectors as they lie on disk: in the work directory of a run, or in a folder to share.

A folder to share holds `model.safetensors`, the arrays by path, and `config.json`: the version of
the format, the classes, and what of the config describes the network and its detections.
"""

import json
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
import safetensors
import safetensors.numpy
from ml_collections import ConfigDict

from ssd_jax.runs import workdir
from ssd_jax.errors import UserError
from ssd_jax.interop.transfer import flatten
from ssd_jax.models.network import Network, Variables, build_network
from ssd_jax.training.checkpoints import Checkpoints


class Trained(NamedTuple):
    """A network with its variables.

    Attributes:
      network: the network.
      variables: parameters and batch statistics.
      class_names: in the order of the labels.
      category_ids: what results call the classes, in the same order.
      config: at least `model` and `detection` of a config of `configs/`.
    """

    network: Network
    variables: tuple[Variables, Variables]
    class_names: tuple[str, ...]
    category_ids: tuple[int, ...]
    config: Any


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
    network = _build(config, len(classes), folder)
    checkpoints = Checkpoints(folder / "checkpoints", read_only=True)
    variables = checkpoints.restore_model(
        *network.variable_shapes(), step=step, averages=config.ema > 0
    )
    checkpoints.close()
    return Trained(network, variables, *_names_and_ids(classes), config)


def save_folder(trained: Trained, folder: Path) -> None:
    """Writes a folder to share."""
    folder.mkdir(parents=True, exist_ok=True)
    arrays = {name: np.asarray(array) for name, array in flatten(trained.variables).items()}
    safetensors.numpy.save_file(arrays, folder / "model.safetensors")
    content = {
        "format": workdir.FORMAT,
        "classes": workdir.describe_classes(trained.class_names, trained.category_ids),
        "model": trained.config.model.to_dict(),
        "detection": trained.config.detection.to_dict(),
    }
    (folder / "config.json").write_text(json.dumps(content, indent=2) + "\n")


def load_folder(folder: Path) -> Trained:
    """Reads what `save_folder` wrote.

    Raises:
      UserError: the folder is none, damaged, or of a later version.
    """
    try:
        content = json.loads((folder / "config.json").read_text())
        workdir.check_format(content["format"], folder)
        config = ConfigDict({"model": content["model"], "detection": content["detection"]})
        network = _build(config, len(content["classes"]), folder)
        arrays = safetensors.numpy.load_file(folder / "model.safetensors")
    except (OSError, ValueError, KeyError, TypeError, safetensors.SafetensorError) as error:
        if isinstance(error, UserError):
            raise
        raise UserError(
            f"{folder} is not the folder of a detector, or it is damaged "
            f"({type(error).__name__}: {error})"
        ) from error
    shapes = network.variable_shapes()
    wanted = {name: shape.shape for name, shape in flatten(shapes).items()}
    if wanted != {name: array.shape for name, array in arrays.items()}:
        raise UserError(
            f"{folder} is damaged: model.safetensors does not hold the network that config.json "
            "describes"
        )
    variables = jax.tree.unflatten(jax.tree.structure(shapes), [arrays[name] for name in wanted])
    return Trained(network, variables, *_names_and_ids(content["classes"]), config)


def _build(config: Any, num_classes: int, folder: Path) -> Network:
    try:
        return build_network(config.model, num_classes)
    except AttributeError as error:
        raise UserError(f"{folder / 'config.json'} is of another version: {error}") from error


def _names_and_ids(classes: list[dict[str, Any]]) -> tuple[tuple[str, ...], tuple[int, ...]]:
    return (
        tuple(entry["name"] for entry in classes),
        tuple(int(entry["id"]) for entry in classes),
    )
