"""The weights that a run starts from, as `config.init` names them."""

from collections.abc import Sequence
from pathlib import Path

from ssd_jax.errors import UserError
from ssd_jax.interop.formats import FORMATS, read_format
from ssd_jax.interop.transfer import Arrays, Classes, Transfer, flatten, transfer
from ssd_jax.models.network import Network
from ssd_jax.runs.trained import load_workdir
from ssd_jax.storage.files import local_path, read_json


def initial_weights(
    init: str, network: Network, seed: int, class_names: Sequence[str], prior: float = 0.0
) -> Transfer:
    """New variables of a network, with all that fits of the weights that `init` names.

    Args:
      init: `config.init`.
      network: what will be trained.
      seed: of everything that the weights do not give.
      class_names: the classes of the network, in the order of the labels.
      prior: see `Network.init`; weights that have a background give theirs.

    Raises:
      UserError: `init` is none of the forms, its weights cannot be read, or nothing of them fits.
    """
    given, given_classes, unused = {}, (), []
    kind, _, place = init.partition(":")
    if kind == "run" and place:
        given, given_classes = _from_run(local_path(place))
    elif kind in FORMATS and place:
        given, given_classes, _, unused = read_format(kind, place, network)
    elif init:
        raise UserError(
            f'config.init is {init!r}, but must be "" (from scratch), "run:WORKDIR" or '
            f'"FORMAT:FILE", with one of the formats {", ".join(FORMATS)}'
        )

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


def _from_run(folder: Path) -> tuple[Arrays, tuple[str, ...]]:
    """The arrays and the class names of a run's last checkpoint."""
    trained = load_workdir(folder)
    arrays = flatten(trained.variables)
    imported = folder / "imported.json"
    if imported.is_file():
        # Of imported weights those that were in the file.
        names = read_json(imported)
        if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
            raise UserError(f"{imported} is damaged: it must be a list of names of arrays")
        arrays = {name: array for name, array in arrays.items() if name in set(names)}
    return arrays, trained.class_names
