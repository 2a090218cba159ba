"""Reads files of weights: tensors by name."""

import math
import zipfile
import zlib
from pathlib import Path

import numpy as np
import safetensors
import safetensors.numpy

from ssd_jax.errors import UserError, reason_of
from ssd_jax.interop.archives import check_claim, max_tensor_bytes, open_archive
from ssd_jax.interop.caffe_model import read_caffe_model
from ssd_jax.interop.torch_pickle import read_torch_file
from ssd_jax.storage.copies import local_copy
from ssd_jax.storage.files import open_file, scheme_hint

TORCH_SUFFIXES = (".pth", ".pt", ".bin")
# The header of a .safetensors file has about 100 bytes per tensor.
MAX_HEADER = 2**24


def read_weights(file: str, network_bytes: int = 0) -> dict[str, np.ndarray]:
    """Reads the tensors of a file, without executing code in it.

    Args:
      file: `.npz`, `.safetensors`, `.pth`, `.pt`, `.bin` (PyTorch) or `.caffemodel`.
      network_bytes: the size of the network's arrays; see `max_tensor_bytes`.

    Raises:
      UserError: the file cannot be read, or claims more than the limit of `max_tensor_bytes`.
    """
    path = local_copy(file)
    try:
        max_bytes = max_tensor_bytes(path, network_bytes)
        if path.suffix == ".caffemodel":
            return read_caffe_model(path)
        if path.suffix in TORCH_SUFFIXES:
            return read_torch_file(path, max_bytes)
        if path.suffix == ".npz":
            return _read_npz(path, max_bytes)
        if path.suffix == ".safetensors":
            return _read_safetensors(path)
    except FileNotFoundError as error:
        raise UserError(f"{file} cannot be read: it does not exist{scheme_hint(file)}") from error
    except UserError:
        raise
    except (
        OSError,
        EOFError,
        KeyError,
        TypeError,
        ValueError,
        NotImplementedError,
        RuntimeError,
        zipfile.BadZipFile,
        zlib.error,
        safetensors.SafetensorError,
    ) as error:
        raise UserError(f"{file} cannot be read: {reason_of(error)}") from error
    raise UserError(
        f"{file} cannot be read: its name must end in .npz, .safetensors, .caffemodel, "
        f"{', '.join(TORCH_SUFFIXES)}"
    )


def _read_npz(path: Path, max_bytes: int) -> dict[str, np.ndarray]:
    """Reads the arrays of NumPy's archive, after a check of their claimed sizes."""
    with open_file(path) as file, open_archive(file) as archive:
        entries = [entry for entry in archive.infolist() if entry.filename.endswith(".npy")]
        claimed = 0
        for entry in entries:
            with archive.open(entry) as part:
                version = np.lib.format.read_magic(part)
                read_header = (
                    np.lib.format.read_array_header_1_0
                    if version == (1, 0)
                    else np.lib.format.read_array_header_2_0
                )
                shape, _, dtype = read_header(part)
            claimed += math.prod(shape) * dtype.itemsize
        check_claim(path, claimed, max_bytes)
        arrays = {}
        for entry in entries:
            with archive.open(entry) as part:
                arrays[entry.filename.removesuffix(".npy")] = np.lib.format.read_array(part)
    return arrays


def _read_safetensors(path: Path) -> dict[str, np.ndarray]:
    """Reads the tensors; they cannot be larger than the file."""
    with open_file(path) as file:
        length = int.from_bytes(file.read(8), "little")
    check_claim(path, length, MAX_HEADER, "header")
    return safetensors.numpy.load_file(path)
