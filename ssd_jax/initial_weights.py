"""The weights that a run starts from, as `config.init` names them."""

import zipfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ssd_jax import workdir
from ssd_jax.errors import UserError
from ssd_jax.interop.keras_weights import load_vgg16, vgg16_arrays
from ssd_jax.interop.pytorch_layouts import (
    rename,
    torchvision_mobilenet_v2_layout,
    torchvision_resnet50_layout,
)
from ssd_jax.interop.transfer import Arrays, Classes, Transfer, flatten, transfer
from ssd_jax.models.network import Network, build_network
from ssd_jax.training.checkpoints import Checkpoints

FORMS = '"" (from scratch), "run:WORKDIR", "keras:imagenet", "keras:PATH" or "torchvision:FILE.npz"'

TORCHVISION_LAYOUTS = {
    "resnet50": torchvision_resnet50_layout,
    "mobilenet_v2": torchvision_mobilenet_v2_layout,
    "mobilenet_v2_narrow": torchvision_mobilenet_v2_layout,
    "mobilenet_v2_tensorflow": torchvision_mobilenet_v2_layout,
}


def initial_weights(init: str, network: Network, seed: int, class_names: Sequence[str]) -> Transfer:
    """New variables of a network, with all that fits of the weights that `init` names.

    Args:
      init: `config.init`.
      network: what will be trained.
      seed: of everything that the weights do not give.
      class_names: the classes of the network, in the order of the labels.

    Raises:
      UserError: `init` is none of the forms, its weights cannot be read, or nothing of them fits.
    """
    variables = network.init(seed)
    given, given_classes, unused = {}, (), []
    kind, _, place = init.partition(":")
    if kind == "run" and place:
        given, given_classes = _from_run(place)
    elif kind == "keras" and place:
        given = _from_keras(init, place, network.backbone)
    elif kind == "torchvision" and place:
        given, unused = _from_torchvision(init, place, network)
    elif init:
        raise UserError(f"config.init is {init!r}, but must be {FORMS}")

    classes = Classes(class_names, given_classes)
    result = transfer(variables, given, classes, network.tiling.boxes_per_cell)
    if init and not result.num_filled:
        raise UserError(
            f"config.init is {init!r}, but none of its arrays fits the network: the config must "
            "describe the network that they come from (model.backbone, model.width, "
            "model.batch_norm, …)"
        )
    return result._replace(unused=result.unused + unused)


def _from_run(place: str) -> tuple[Arrays, tuple[str, ...]]:
    """The arrays and the class names of a run's last checkpoint."""
    folder = Path(place)
    class_names = workdir.read_class_names(folder)
    config = workdir.read_config(folder)
    try:
        network = build_network(config.model, len(class_names))
    except AttributeError as error:
        raise UserError(f"{folder / 'config.json'} is of another version: {error}") from error
    checkpoints = Checkpoints(folder / "checkpoints", read_only=True)
    variables = checkpoints.restore_model(*network.variable_shapes(), averages=config.ema > 0)
    checkpoints.close()
    return flatten(variables), class_names


def _from_keras(init: str, weights: str, backbone: str) -> Arrays:
    if backbone not in ("vgg16", "vgg16_whole"):
        raise UserError(
            f"config.init is {init!r}, but Keras' weights are for the backbone vgg16, not for "
            f"{backbone}: start from scratch with --config.init="
        )
    return vgg16_arrays(load_vgg16(weights), atrous=backbone == "vgg16")


def _from_torchvision(init: str, file: str, network: Network) -> tuple[Arrays, list[str]]:
    """The arrays of a backbone, and the names of tensors that it has no place for."""
    if network.backbone not in TORCHVISION_LAYOUTS:
        raise UserError(
            f"config.init is {init!r}, but torchvision's weights are for the backbones "
            f"{', '.join(TORCHVISION_LAYOUTS)}, not for {network.backbone}"
        )
    try:
        with np.load(file, allow_pickle=False) as content:
            tensors = dict(content)
    except (OSError, EOFError, ValueError, TypeError, zipfile.BadZipFile) as error:
        raise UserError(f"config.init is {init!r}, but {file} cannot be read: {error}") from error
    renamed = rename(
        tensors,
        TORCHVISION_LAYOUTS[network.backbone](),
        network.variable_shapes(),
        network.tiling.boxes_per_cell,
    )
    return renamed.arrays, renamed.left_over
