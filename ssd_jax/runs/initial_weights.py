"""The start weights of a run, from `config.init`."""

import logging
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ssd_jax.config.schema import Config
from ssd_jax.data.datasets import Dataset
from ssd_jax.detection.losses import FOCAL_PRIOR
from ssd_jax.errors import UserError, counted
from ssd_jax.interop.formats import FORMATS, read_format
from ssd_jax.interop.transfer import (
    COPIED,
    Arrays,
    Classes,
    Transfer,
    flatten,
    format_transfer,
    summarise_transfer,
    transfer,
)
from ssd_jax.models.network import Network
from ssd_jax.runs.stores import run_copy
from ssd_jax.runs.trained import load_workdir
from ssd_jax.storage.files import read_json, write_text

logger = logging.getLogger(__name__)

NUM_MEASURED = 48  # images, for statistics of batch norm


def start_weights(config: Config, network: Network, train: Dataset) -> Transfer:
    """The weights before the first step, from `config.init`.

    Args:
      config: of the run.
      network: the network to train.
      train: the training data.

    Raises:
      UserError: see `initial_weights`.
    """
    prior = FOCAL_PRIOR if config.loss.confidence == "focal" else 0.0
    weights = initial_weights(config.init, network, config.seed, train.class_names, prior)
    if has_folded_norms(weights) and not config.freeze_batch_norm:
        weights = with_measured_norms(weights, network, train)
    return weights


def check_init(init: str) -> None:
    """Checks the form of `config.init`, before its weights are read.

    Raises:
      UserError: it has none of the forms.
    """
    kind, _, place = init.partition(":")
    if init and not (place and kind in ("run", *FORMATS)):
        raise UserError(
            f'config.init is {init!r}, but must be "" (from scratch), "run:WORKDIR" or '
            f'"FORMAT:FILE", with one of the formats {", ".join(FORMATS)}'
        )


def initial_weights(
    init: str, network: Network, seed: int, class_names: Sequence[str], prior: float = 0.0
) -> Transfer:
    """New variables of a network, with all arrays from `init` that fit.

    Args:
      init: `config.init`.
      network: the network to train.
      seed: of all other arrays.
      class_names: the classes of the network, in the order of the labels.
      prior: see `Network.init`; replaced by weights that have a background.

    Raises:
      UserError: `init` has none of the forms, its weights cannot be read, or no array fits.
    """
    check_init(init)
    given, given_classes, unused = {}, (), []
    kind, _, place = init.partition(":")
    if kind == "run":
        given, given_classes = _from_run(run_copy(place))
    elif init:
        given, given_classes, _, unused = read_format(kind, place, network)

    classes = Classes(class_names, given_classes)
    boxes_per_cell = network.tiling.boxes_per_cell
    result = transfer(network.init(seed, prior), given, classes, boxes_per_cell)
    if init and not result.num_filled:
        raise UserError(
            f"config.init is {init!r}, but none of its arrays fits the network: the config must "
            "describe the network that they come from (model.backbone, model.width, "
            "model.batch_norm, …)"
        )
    return result._replace(unused=result.unused + unused)


def record_weights(folder: Path, init: str, weights: Transfer) -> None:
    """Writes the origin of each array to `weights.txt`, and logs a summary.

    Args:
      folder: the work directory.
      init: `config.init`.
      weights: from `start_weights`.
    """
    file = folder / "weights.txt"
    write_text(file, format_transfer(weights) + "\n")
    summary = summarise_transfer(weights)
    logger.info("weights from %s (array by array in %s)\n%s", init, file, summary)


def has_folded_norms(weights: Transfer) -> bool:
    """Whether batch norm in the backbone was folded into its convolutions, as for deployment.

    Then all scales are 1 and all means are 0, which training never produces.
    """
    arrays = flatten(weights.variables)
    constants = {
        name: 1.0 if name.endswith("/norm/scale") else 0.0
        for name, _, status in weights.statuses
        if name.startswith("backbone/")
        and name.endswith(("/norm/scale", "/norm/mean"))
        and status == COPIED
    }
    return bool(constants) and all(
        bool(np.all(np.asarray(arrays[name]) == value)) for name, value in constants.items()
    )


def with_measured_norms(weights: Transfer, network: Network, train: Dataset) -> Transfer:
    """Returns weights whose batch norm has the statistics of `NUM_MEASURED` training images.

    The images are whole and without augmentation, like the later inputs of the detector.

    Args:
      weights: for which `has_folded_norms` is true.
      network: the network to train.
      train: the training data; all processes use its first images.
    """
    from ssd_jax.data.evaluation_batches import evaluation_batches

    size = network.tiling.image_size
    batch = next(evaluation_batches(train, image_size=size, batch_size=NUM_MEASURED))
    images = network.normalise(batch["image"][batch["mask"]])
    measured = network.measure_norms(*weights.variables, images)
    logger.info(
        "batch norm of these weights was folded into the convolutions: its statistics are measured "
        "on %s",
        counted(len(images), "training image"),
    )
    return weights._replace(variables=measured)


def _from_run(folder: Path) -> tuple[Arrays, tuple[str, ...]]:
    """The arrays and the class names of a run's last checkpoint."""
    trained = load_workdir(folder)
    arrays = flatten(trained.variables)
    imported = folder / "imported.json"
    if imported.is_file():
        # Of imported weights, only the arrays from their file.
        names = read_json(imported)
        if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
            raise UserError(f"{imported} is damaged: it must be a list of names of arrays")
        arrays = {name: array for name, array in arrays.items() if name in set(names)}
    return arrays, trained.class_names
