"""Batches that are too large for the memory: refused before they are tried, and told afterwards."""

import contextlib
import os
import re
from collections.abc import Iterator
from pathlib import Path

from ssd_jax.errors import UserError

# How XLA, its kernels for CPUs, TensorFlow, onnxruntime and OpenVINO say that they get no memory.
OUT_OF_MEMORY = re.compile(
    "RESOURCE_EXHAUSTED|YNNPACK operation failed|OOM when allocating"
    r"|Failed to allocate (memory|\d+ bytes)|std::bad_alloc"
)
CONTAINER_LIMITS = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")


def check_batch(batch_size: int, image_size: int, convolution_bytes: int, fix: str) -> None:
    """Refuses a batch that cannot fit, whatever the compiler makes of the network.

    Args:
      batch_size: images that a device works on at a time.
      image_size: the side of an image.
      convolution_bytes: what the largest convolution reads and writes for the batch.
      fix: what to do, for the message.

    Raises:
      UserError: the machine has no memory for the images, or a device none for the convolution.
    """
    import jax  # takes a second, and detectors of exported files do without

    on_host = jax.local_device_count() * batch_size * image_size**2 * 3
    statistics = jax.local_devices()[0].memory_stats() or {}
    if "bytes_limit" in statistics:
        _check(batch_size, convolution_bytes, statistics["bytes_limit"], "the device", fix)
    else:  # its devices are the machine
        on_host += jax.local_device_count() * convolution_bytes
    _check(batch_size, on_host, _host_memory(), "this machine", fix)


def check_images(batch_size: int, image_size: int, fix: str) -> None:
    """Refuses a batch for whose images alone, as bytes and as floats, the machine has no memory.

    Args:
      batch_size: how many images.
      image_size: the side of an image.
      fix: what to do, for the message.

    Raises:
      UserError: there is none.
    """
    needed = batch_size * image_size**2 * 3 * (1 + 4)
    _check(batch_size, needed, _host_memory(), "this machine", fix)


@contextlib.contextmanager
def out_of_memory_as_user_error(batch_size: int, fix: str) -> Iterator[None]:
    """A block in which running out of memory is the user's error.

    Args:
      batch_size: images that a device works on at a time.
      fix: what to do, for the message.

    Raises:
      UserError: the memory of the machine or of a device ended.
    """
    try:
        yield
    except UserError:  # as of a full disk, which libraries call by the same words
        raise
    except Exception as error:
        if not isinstance(error, MemoryError) and not OUT_OF_MEMORY.search(str(error)):
            raise
        raise UserError(
            f"memory ended with a batch of {batch_size:,} images on a device: {fix}"
        ) from error


def _check(batch_size: int, needed: int, there: int | None, whose: str, fix: str) -> None:
    if there is not None and needed > there:
        raise UserError(
            f"a batch of {batch_size:,} images on a device needs at least {needed / 1e9:,.1f} GB "
            f"of memory, but {whose} has {there / 1e9:,.1f} GB: {fix}"
        )


def _host_memory() -> int | None:
    """Bytes that this machine, or the container, has; None where that is not known."""
    if not hasattr(os, "sysconf"):  # Windows
        return None
    found = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    for file in CONTAINER_LIMITS:
        with contextlib.suppress(OSError, ValueError):  # "max"
            found = min(found, int(Path(file).read_text()))
    return found
