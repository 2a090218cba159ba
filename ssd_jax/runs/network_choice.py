"""Chooses the network of a new run by the machine and the available start weights."""

import logging
from collections.abc import Collection

import jax

from ssd_jax.config.files import load_config
from ssd_jax.config.schema import Config
from ssd_jax.distributed import devices, exchange
from ssd_jax.errors import UserError
from ssd_jax.interop.published_weights import published_file
from ssd_jax.runs.workdir import flat_fields

logger = logging.getLogger(__name__)

NETWORKS = {
    "cpu": "SSDLite with MobileNetV2 at 320 pixels, the fastest, for a CPU",
    "accelerator": "the paper's SSD300 with VGG16, in bfloat16, for an accelerator",
    "scratch": "a small SSD at 256 pixels",
}
# From docs/benchmarks.md: fine-tuning on a folder of images, and a small network from scratch.
COST = (
    "training from scratch takes longer and reaches less (with 160 images of raccoons mAP 81 "
    "instead of 89)"
)


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
    row = "cpu" if jax.default_backend() == "cpu" else "accelerator"
    found = exchange.from_main_process(_reason_without_weights(row) if init is None else "")
    if init == "" or found:
        row = "scratch"
    if devices.is_main_process():
        reason = f", without start weights; {COST}" if row == "scratch" else ""
        logger.info("network: %s%s%s", NETWORKS[row], reason, f". {found}" if found else "")
    return row


def _reason_without_weights(row: str) -> str:
    """The reason why the weights of ImageNet are missing; "" if they are not."""
    try:
        published_file("imagenet", "mobilenet_v2" if row == "cpu" else "vgg16")
    except UserError as error:
        return str(error)
    return ""
