"""Chooses the network of a new run by the machine and the available start weights."""

import logging
import shlex
from collections.abc import Collection

import jax

from ssd_jax.config.files import load_config
from ssd_jax.config.schema import Config
from ssd_jax.distributed import devices, exchange
from ssd_jax.errors import UserError
from ssd_jax.interop.published_weights import address_and_path, published_file
from ssd_jax.runs.workdir import flat_fields

logger = logging.getLogger(__name__)

NETWORKS = {
    "cpu": "SSDLite with MobileNetV2, the fastest, for a CPU",
    "accelerator": "the paper's SSD300 with VGG16, in bfloat16, for an accelerator",
    "scratch": "a small SSD",
}
BACKBONES = {"cpu": "mobilenet_v2", "accelerator": "vgg16"}  # of start weights
COST = "training takes longer and reaches less"  # numbers: docs/benchmarks.md


def with_network(config: Config, given: Collection[str]) -> Config:
    """The config with the network for this machine, a row of `configs/own_images.py`.

    Args:
      config: the config.
      given: the names of fields that must not change.
    """
    values = flat_fields(config.model_dump())
    row = choose_row(config.init if "init" in given else None)
    own = load_config(f"own_images:{row}")
    return own.replace({field: values[field] for field in {*given, "data.eval"}})


def choose_row(init: str | None) -> str:
    """Chooses the row of `configs/own_images.py` for this machine, and logs the reason.

    Args:
      init: `config.init` if it is given; None = to choose, which may download weights.
    """
    row = _row_with_weights()
    found = exchange.from_main_process(_reason_without_weights(row) if init is None else "")
    if init == "" or found:
        row = "scratch"
    if devices.is_main_process():
        lines = [f"network: {NETWORKS[row]}"]
        if row == "scratch":
            lines = [f"{lines[0]}, without start weights: {COST}"]
        logger.info("%s", "\n  ".join([*lines, *filter(None, [found])]))
    return row


def how_to_use_weights() -> str:
    """How to train with start weights, after a run for which they were missing.

    Returns:
      A line, and below it the command that downloads the weights if they are still missing.
    """
    try:
        address, path = address_and_path("imagenet", BACKBONES[_row_with_weights()])
    except UserError as error:
        return str(error)
    advice = "training with start weights in another --workdir, because a run keeps its network"
    if path.exists():
        return f"{advice}; the weights are in {path}"
    download = f"curl --create-dirs -o {shlex.quote(str(path))} {shlex.quote(address)}"
    return f"{advice}; download them, also on another machine:\n  {download}"


def _row_with_weights() -> str:
    return "cpu" if jax.default_backend() == "cpu" else "accelerator"


def _reason_without_weights(row: str) -> str:
    """The reason why the weights of ImageNet are missing; "" if they are not."""
    try:
        published_file("imagenet", BACKBONES[row])
    except UserError as error:
        return str(error)
    return ""
