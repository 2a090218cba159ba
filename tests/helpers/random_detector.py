"""A detector with random weights, which finds many objects of random classes."""

from ssd_jax.config.schema import as_config
from ssd_jax.interop.trained import Trained
from ssd_jax.models.network import build_network
from tests import tiny

NAMES = ("circle", "cross", "square", "star", "triangle")
CATEGORY_IDS = (1, 3, 7, 8, 90)


def random_trained() -> Trained:
    """The tiny network before training; the ids of its classes differ from their labels."""
    config = as_config(tiny.get_config())
    network = build_network(config.model, len(NAMES))
    return Trained(network, network.init(7), NAMES, CATEGORY_IDS, config)
