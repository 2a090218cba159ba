"""Checks before a run that a batch fits into the memory; reports later failures as user errors."""

import contextlib
import os
import re
from collections.abc import Iterator
from pathlib import Path

from ssd_jax.errors import UserError

# Messages of XLA, its CPU kernels, TensorFlow, onnxruntime and OpenVINO when memory runs out.
OUT_OF_MEMORY = re.compile(
    "RESOURCE_EXHAUSTED|YNNPACK operation failed|OOM when allocating"
    r"|Failed to allocate (memory|\d+ bytes)|std::bad_alloc"
)
CONTAINER_LIMITS = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")


def check_batch(batch_size: int, image_size: int, convolution_bytes: int, fix: str) -> None:
    """Raises a `UserError` for a batch that no compiled network can process in the memory.

    Args:
      batch_size: images that a device processes at a time.
      image_size: the side of an image.
      convolution_bytes: input and output of the largest convolution for the batch.
      fix: the remedy, for the message.

    Raises:
      UserError: the images do not fit into the memory of the machine, or the convolution into that
        of a device.
    """
    import jax  # the import takes a second, and detectors of exported files do not need it

    on_host = jax.local_device_count() * batch_size * image_size**2 * 3
    statistics = jax.local_devices()[0].memory_stats() or {}
    if "bytes_limit" in statistics:
        _check(batch_size, convolution_bytes, statistics["bytes_limit"], "the device", fix)
    else:  # its devices use the memory of the machine
        on_host += jax.local_device_count() * convolution_bytes
    _check(batch_size, on_host, _host_memory(), "this machine", fix)


def check_images(batch_size: int, image_size: int, fix: str) -> None:
    """Raises a `UserError` if the images of a batch, as bytes and floats, exceed the memory.

    Args:
      batch_size: the number of images.
      image_size: the side of an image.
      fix: the remedy, for the message.

    Raises:
      UserError: they do not fit.
    """
    needed = batch_size * image_size**2 * 3 * (1 + 4)
    _check(batch_size, needed, _host_memory(), "this machine", fix)


@contextlib.contextmanager
def out_of_memory_as_user_error(batch_size: int, fix: str) -> Iterator[None]:
    """A block in which running out of memory raises a `UserError`.

    Args:
      batch_size: images that a device processes at a time.
      fix: the remedy, for the message.

    Raises:
      UserError: the machine or a device ran out of memory.
    """
    try:
        yield
    except UserError:  # for example a full disk, for which libraries use the same words
        raise
    except Exception as error:
        if not isinstance(error, MemoryError) and not OUT_OF_MEMORY.search(str(error)):
            raise
        raise UserError(
            f"out of memory with a batch of {batch_size:,} images on a device: {fix}"
        ) from error


def _check(batch_size: int, needed: int, there: int | None, whose: str, fix: str) -> None:
    if there is not None and needed > there:
        raise UserError(
            f"a batch of {batch_size:,} images on a device needs at least {needed / 1e9:,.1f} GB "
            f"of memory, but {whose} has {there / 1e9:,.1f} GB: {fix}"
        )


def _host_memory() -> int | None:
    """Bytes of memory of this machine or container; None if unknown."""
    if not hasattr(os, "sysconf"):  # Windows
        return None
    found = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    for file in CONTAINER_LIMITS:
        with contextlib.suppress(OSError, ValueError):  # "max"
            found = min(found, int(Path(file).read_text()))
    return found
