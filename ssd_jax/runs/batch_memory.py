"""Out-of-memory errors of training and evaluation batches."""

import contextlib
from collections.abc import Iterator

import jax

from ssd_jax.distributed.memory import check_batch, out_of_memory_as_user_error
from ssd_jax.models.activations import activation_bytes
from ssd_jax.models.network import Network

FIX = (
    "set a smaller config.batch_size, in training also a larger config.accumulate, which keeps the "
    "update"
)


@contextlib.contextmanager
def batch_memory(network: Network, batch_size: int, accumulate: int = 1) -> Iterator[None]:
    """A block that runs a network on batches.

    Args:
      network: the network.
      batch_size: of this process.
      accumulate: gradient accumulation steps.

    Raises:
      UserError: the batch does not fit into the memory; raised before or in the block.
    """
    per_device = batch_size // jax.local_device_count() // accumulate
    size = network.tiling.image_size
    check_batch(per_device, size, activation_bytes(network, per_device), FIX)
    with out_of_memory_as_user_error(per_device, FIX):
        yield
