"""Reads the tensors of a PyTorch file without PyTorch, and without executing code in it.

A `.pth` file is a pickle, which may call any function. Here, only the functions that rebuild
tensors and ordered dictionaries are allowed, and replaced by ours; files that need others are
rejected. Both formats of PyTorch are read: the zip archive (since 1.6) and the older sequence of
pickles.
"""

import io
import math
import os
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import ml_dtypes
import numpy as np

from ssd_jax.errors import UserError, reason_of, shown
from ssd_jax.interop.archives import check_claim, open_archive
from ssd_jax.interop.pickle_reader import MAX_BYTES, Name, PickleReader, RefusedError
from ssd_jax.storage.files import open_file

LEGACY_MAGIC = 0x1950A86A20F9469CFC6C
STORAGES = {
    "torch.DoubleStorage": np.dtype("<f8"),
    "torch.FloatStorage": np.dtype("<f4"),
    "torch.HalfStorage": np.dtype("<f2"),
    "torch.BFloat16Storage": np.dtype(ml_dtypes.bfloat16),
    "torch.LongStorage": np.dtype("<i8"),
    "torch.IntStorage": np.dtype("<i4"),
    "torch.ShortStorage": np.dtype("<i2"),
    "torch.CharStorage": np.dtype("i1"),
    "torch.ByteStorage": np.dtype("u1"),
    "torch.BoolStorage": np.dtype("?"),
}
MAX_DIMENSIONS = 32
# Names under which training programs store the state dict, next to other content.
WRAPPERS = ("state_dict", "model", "model_state_dict")


class _Storage(NamedTuple):
    key: str
    dtype: np.dtype
    length: int

    @property
    def num_bytes(self) -> int:
        return self.length * self.dtype.itemsize


class _Tensor(NamedTuple):
    storage: _Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]

    @property
    def num_bytes(self) -> int:
        """The size of its array, in which bfloat16 becomes float32."""
        return math.prod(self.shape) * max(self.storage.dtype.itemsize, 4)


def _tensor(storage: Any, offset: Any, shape: Any, strides: Any, *_: Any) -> _Tensor:
    if not isinstance(storage, _Storage):
        raise RefusedError("a tensor has no storage")
    offset, shape, strides = int(offset), tuple(map(int, shape)), tuple(map(int, strides))
    if len(shape) > MAX_DIMENSIONS:
        raise RefusedError(f"a tensor has {len(shape)} dimensions")
    steps = zip(shape, strides, strict=True)
    last = offset + sum((size - 1) * stride for size, stride in steps)
    fits = offset >= 0 and min((*shape, *strides), default=0) >= 0 and last < storage.length
    if math.prod(shape) and not (fits and math.prod(shape) <= storage.length):
        raise RefusedError(f"a tensor of shape {shape} exceeds its storage")
    return _Tensor(storage, offset, shape, strides)


def _torch_size(values: Any = ()) -> tuple[Any, ...]:
    return tuple(values)


def _parameter(data: Any, *_: Any) -> Any:
    return data  # already a tensor


def _storage_type(*_: Any) -> None:
    raise RefusedError("it calls the type of a storage")


FUNCTIONS: dict[str, Callable[..., Any]] = {
    **dict.fromkeys(STORAGES, _storage_type),
    "collections.OrderedDict": dict,
    "torch.Size": _torch_size,
    "torch._utils._rebuild_tensor": _tensor,
    "torch._utils._rebuild_tensor_v2": _tensor,
    "torch._utils._rebuild_parameter": _parameter,
}


class _Reader(PickleReader):
    """Collects the storages named in pickles."""

    def __init__(self, file: BinaryIO):
        super().__init__(file, FUNCTIONS, self._storage)
        self.storages: dict[str, _Storage] = {}

    def _storage(self, saved: Any) -> _Storage:
        kind, storage, key, _, length, *_ = saved
        if kind != "storage" or not isinstance(storage, Name) or storage.name not in STORAGES:
            raise RefusedError(f"it refers to {shown(kind)}")
        made = _Storage(str(key), STORAGES[storage.name], int(length))
        return self.storages.setdefault(made.key, made)


def read_torch_file(path: Path, max_bytes: int) -> dict[str, np.ndarray]:
    """Reads the state dict of a PyTorch file.

    Args:
      path: the file.
      max_bytes: the largest size of its tensors.

    Raises:
      UserError: the file is damaged, is not a PyTorch file, contains other content than tensors,
        more than `max_bytes` of them, or no state dict.
    """
    try:
        with open_file(path) as file:
            is_zip = zipfile.is_zipfile(file)
            file.seek(0)
            return (_read_zip if is_zip else _read_legacy)(file, path, max_bytes)
    except UserError:
        raise
    except RefusedError as error:
        raise UserError(
            f"{path} is rejected, because it contains more than tensors: {reason_of(error)}"
        ) from error
    except Exception as error:  # a damaged pickle may raise any error
        raise UserError(
            f"{path} is not a file of PyTorch weights, or it is damaged "
            f"({type(error).__name__}: {reason_of(error)})"
        ) from error


def _read_zip(file: BinaryIO, path: Path, max_bytes: int) -> dict[str, np.ndarray]:
    with open_archive(file) as archive:
        (index,) = (name for name in archive.namelist() if name.endswith("/data.pkl"))
        folder = index.removesuffix("data.pkl")
        if any(info.compress_type != zipfile.ZIP_STORED for info in archive.infolist()):
            raise RefusedError("its parts are compressed, but PyTorch's never are")
        check_claim(path, archive.getinfo(index).file_size, MAX_BYTES, "index")
        tensors = _state_dict(_Reader(io.BytesIO(archive.read(index))).load(), path, max_bytes)
        rest = file.seek(0, os.SEEK_END)
        values = {}
        for storage in _storages(tensors):
            entry = archive.getinfo(f"{folder}data/{storage.key}")
            # Parts may overlap, so that together they are larger than the file.
            rest -= entry.file_size
            if entry.file_size < storage.num_bytes or rest < 0:
                raise ValueError(f"its part {storage.key} does not match its index")
            raw = archive.read(entry)
            values[storage.key] = np.frombuffer(raw, storage.dtype, storage.length)
    return _filled(tensors, values)


def _read_legacy(file: BinaryIO, path: Path, max_bytes: int) -> dict[str, np.ndarray]:
    reader = _Reader(file)
    if reader.load() != LEGACY_MAGIC:
        raise ValueError("its beginning is wrong")
    reader.load()  # version of the format
    reader.load()  # properties of the machine that wrote it
    tensors = _state_dict(reader.load(), path, max_bytes)
    wanted = _storages(tensors)
    keys = reader.load()
    place = file.tell()
    end = file.seek(0, os.SEEK_END)
    values = {}
    for key in keys:
        file.seek(place)
        (length,) = np.frombuffer(file.read(8), "<i8")
        storage = reader.storages.get(key)
        if storage is None or length != storage.length:
            raise ValueError(f"its part {shown(key)} does not match its index")
        start, place = place + 8, place + 8 + storage.num_bytes
        if place > end:
            raise ValueError("it ends inside a tensor")
        if storage in wanted:
            file.seek(start)
            values[key] = np.frombuffer(file.read(storage.num_bytes), storage.dtype)
    return _filled(tensors, values)


def _state_dict(content: object, path: Path, max_bytes: int) -> dict[str, _Tensor]:
    """Extracts the state dict from the content of a PyTorch file."""
    for wrapper in WRAPPERS:
        if isinstance(content, dict) and isinstance(content.get(wrapper), dict):
            content = content[wrapper]
    if not isinstance(content, dict) or not content:
        raise UserError(f"{path} has no state dict")
    strangers = [name for name, value in content.items() if not isinstance(value, _Tensor)]
    if strangers:
        raise UserError(f"{path} has no state dict: its {shown(strangers[0])} is not a tensor")
    check_claim(path, sum(tensor.num_bytes for tensor in content.values()), max_bytes)
    # Data-parallel training adds this prefix to every name.
    return {str(name).removeprefix("module."): tensor for name, tensor in content.items()}


def _storages(tensors: dict[str, _Tensor]) -> set[_Storage]:
    return {tensor.storage for tensor in tensors.values()}


def _filled(tensors: dict[str, _Tensor], storages: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Replaces every tensor by an array."""
    return {name: _array(tensor, storages[tensor.storage.key]) for name, tensor in tensors.items()}


def _array(tensor: _Tensor, values: np.ndarray) -> np.ndarray:
    strides = [stride * values.itemsize for stride in tensor.strides]
    view = np.lib.stride_tricks.as_strided(
        values[tensor.offset :], tensor.shape, strides, writeable=False
    )
    array = np.ascontiguousarray(view).reshape(tensor.shape)
    return array.astype(np.float32) if array.dtype == ml_dtypes.bfloat16 else array
