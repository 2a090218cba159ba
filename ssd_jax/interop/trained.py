"""A trained detector, and its folder for sharing.

The folder has `model.safetensors`, the arrays by path; `config.json`: the version of the format,
the classes, and the config of the network and of detection; and `SHA256SUMS`.
"""

from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
import safetensors
import safetensors.numpy

from ssd_jax.config.saved import FORMAT, check_format, upgrade
from ssd_jax.config.schema import DetectorConfig, checked
from ssd_jax.data.class_lists import check_described, describe_classes
from ssd_jax.errors import UserError
from ssd_jax.interop.transfer import flatten
from ssd_jax.models.network import Network, Variables, build_network
from ssd_jax.storage.checksums import CHECKSUMS_FILE, DamageError, verify_checksums, write_checksums
from ssd_jax.storage.copies import local_copy, sending, top_level
from ssd_jax.storage.files import (
    AnyPath,
    read_json,
    scheme_hint,
    write_bytes,
    write_json,
)
from ssd_jax.storage.outputs import check_outputs_in
from ssd_jax.storage.replacing import replacing_files

FILES = ("config.json", "model.safetensors")
# Files of other exports.
WRITTEN_ONLY = {
    "saved_model.pb": "a SavedModel",
    "detector.stablehlo": "a file of StableHLO",
    "detector.onnx": "a file of ONNX",
    "detector.tflite": "a file of TFLite",
}


class Trained(NamedTuple):
    """A network with its variables.

    Attributes:
      network: the network.
      variables: parameters and batch statistics.
      class_names: the classes, in the order of the labels.
      category_ids: the ids of the classes in results, in the same order.
      config: the config of the network and of detection.
    """

    network: Network
    variables: tuple[Variables, Variables]
    class_names: tuple[str, ...]
    category_ids: tuple[int, ...]
    config: DetectorConfig


def save_folder(trained: Trained, place: AnyPath) -> None:
    """Writes a folder for sharing.

    Raises:
      UserError: the folder is the work directory of a run, or inside it.
    """
    check_outputs_in(place, *FILES)
    arrays = {name: np.asarray(array) for name, array in flatten(trained.variables).items()}
    content = {
        "format": FORMAT,
        "classes": describe_classes(trained.class_names, trained.category_ids),
        "model": trained.config.model.model_dump(mode="json"),
        "detection": trained.config.detection.model_dump(mode="json"),
    }
    with sending(place) as folder, replacing_files(folder, last=CHECKSUMS_FILE) as unfinished:
        # Not written by safetensors, which makes files readable only for their owner.
        write_bytes(unfinished / "model.safetensors", safetensors.numpy.save(arrays))
        write_json(unfinished / "config.json", content)
        write_checksums(unfinished, FILES, folder)


def load_folder(place: AnyPath) -> Trained:
    """Reads a folder of `save_folder`.

    Raises:
      UserError: the folder is not a detector, is damaged, or from a later version.
    """
    folder = local_copy(place, top_level)
    if (folder / "format.json").is_file():
        raise UserError(
            f"{folder} is the work directory of a run, not the folder of a detector: use --workdir "
            "or Detector.from_workdir, or export it"
        )
    if not (folder / "config.json").is_file():
        raise UserError(_why_no_detector(folder))
    try:
        verify_checksums(folder, FILES)
    except DamageError as error:
        raise UserError(
            f"{folder} is damaged: {error}. Export it again; or, if you changed the file yourself, "
            f"remove {CHECKSUMS_FILE}"
        ) from error
    try:
        content = read_json(folder / "config.json")
        check_format(content["format"], folder)
        given = {"model": content["model"], "detection": content["detection"]}
        config = checked(DetectorConfig, upgrade(given, content["format"]))
        classes = check_described(content["classes"], folder / "config.json")
        network = build_network(config.model, len(classes))
        arrays = safetensors.numpy.load_file(folder / "model.safetensors")
    except (OSError, ValueError, KeyError, TypeError, safetensors.SafetensorError) as error:
        if isinstance(error, UserError):
            raise UserError(f"{folder}: {error}") from error
        raise UserError(
            f"{folder} is not the folder of a detector, or it is damaged "
            f"({type(error).__name__}: {error})"
        ) from error
    shapes = network.variable_shapes()
    wanted = {name: shape.shape for name, shape in flatten(shapes).items()}
    if wanted != {name: array.shape for name, array in arrays.items()}:
        raise UserError(
            f"{folder} is damaged: model.safetensors does not have the network of config.json"
        )
    variables = jax.tree.unflatten(jax.tree.structure(shapes), [arrays[name] for name in wanted])
    return Trained(network, variables, *names_and_ids(classes), config)


def _why_no_detector(folder: Path) -> str:
    """The reason why a folder without config.json is not a detector."""
    if not folder.exists():
        return f"{folder} does not exist{scheme_hint(folder)}"
    if folder.is_file():
        return (
            f"{folder} is a file: name a folder exported to safetensors or hf, or a run with "
            "--workdir; predict, evaluate and benchmark also take .onnx and .tflite files"
        )
    for file, kind in WRITTEN_ONLY.items():
        if (folder / file).exists():
            return (
                f"{folder} has {file}, {kind}, which cannot be loaded here: name a folder exported "
                "to safetensors or hf; predict, evaluate and benchmark also take onnx and tflite"
            )
    return f"{folder} is not the folder of a detector, or it is damaged: it has no config.json"


def names_and_ids(classes: list[dict[str, Any]]) -> tuple[tuple[str, ...], tuple[int, ...]]:
    """The names and ids of saved classes."""
    return (
        tuple(entry["name"] for entry in classes),
        tuple(int(entry["id"]) for entry in classes),
    )
