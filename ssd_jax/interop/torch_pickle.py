"""Reads the tensors of a PyTorch file without PyTorch, and without running anything in it.

A `.pth` file is a pickle, which may call any function. Here it may call those that rebuild tensors
and ordered dictionaries; a file that asks for anything else is refused. Both of PyTorch's formats
are read: the zip archive (since 1.6) and the row of pickles before it.
"""

import collections
import io
import math
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import ml_dtypes
import numpy as np

from ssd_jax.errors import UserError

LEGACY_MAGIC = 0x1950A86A20F9469CFC6C
STORAGES = {
    "DoubleStorage": np.dtype("<f8"),
    "FloatStorage": np.dtype("<f4"),
    "HalfStorage": np.dtype("<f2"),
    "BFloat16Storage": np.dtype(ml_dtypes.bfloat16),
    "LongStorage": np.dtype("<i8"),
    "IntStorage": np.dtype("<i4"),
    "ShortStorage": np.dtype("<i2"),
    "CharStorage": np.dtype("i1"),
    "ByteStorage": np.dtype("u1"),
    "BoolStorage": np.dtype("?"),
}


class _Storage(NamedTuple):
    key: str
    dtype: np.dtype
    length: int


class _Tensor(NamedTuple):
    storage: _Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


class _Refused(pickle.UnpicklingError):
    """The file asks for something that is no tensor."""


class _RebuildTensor:
    """Called by a pickle. Without attributes, so that a pickle cannot change it."""

    __slots__ = ()

    def __call__(self, storage: Any, offset: int, shape: Any, strides: Any, *_: Any) -> _Tensor:
        if not isinstance(storage, _Storage):
            raise _Refused("a tensor has no storage")
        shape, strides = tuple(map(int, shape)), tuple(map(int, strides))
        steps = zip(shape, strides, strict=True)
        last = offset + sum((size - 1) * stride for size, stride in steps)
        fits = offset >= 0 and min((*shape, *strides), default=0) >= 0 and last < storage.length
        if math.prod(shape) and not (fits and math.prod(shape) <= storage.length):
            raise _Refused(f"a tensor of shape {shape} exceeds its storage")
        return _Tensor(storage, int(offset), shape, strides)


class _RebuildParameter:
    """Called by a pickle: what it wraps is a tensor already."""

    __slots__ = ()

    def __call__(self, data: Any, *_: Any) -> Any:
        return data


ALLOWED = {
    ("collections", "OrderedDict"): collections.OrderedDict,
    ("torch", "Size"): tuple,
    ("torch._utils", "_rebuild_tensor"): _RebuildTensor(),
    ("torch._utils", "_rebuild_tensor_v2"): _RebuildTensor(),
    ("torch._utils", "_rebuild_parameter"): _RebuildParameter(),
}


class _Unpickler(pickle.Unpickler):
    """Makes tensors that know where their values lie, and nothing else."""

    def find_class(self, module: str, name: str) -> Any:
        if module == "torch" and name in STORAGES:
            return name
        if (module, name) not in ALLOWED:
            raise _Refused(f"it asks for {module}.{name}, which is no part of a tensor")
        return ALLOWED[module, name]

    def persistent_load(self, saved: Any) -> _Storage:
        kind, storage, key, _, length, *_ = saved
        if kind != "storage" or storage not in STORAGES:
            raise _Refused(f"it refers to {kind!r}")
        return _Storage(str(key), STORAGES[storage], int(length))


def read_torch_file(path: Path) -> Any:
    """The content of a PyTorch file: dictionaries, lists, numbers, strings, and NumPy arrays.

    Raises:
      UserError: the file is damaged, is no such file, or holds anything else than tensors.
    """
    try:
        with path.open("rb") as file:
            is_zip = zipfile.is_zipfile(file)
            file.seek(0)
            return _read_zip(file) if is_zip else _read_legacy(file)
    except _Refused as error:
        raise UserError(f"{path} is refused, for it is not tensors alone: {error}") from error
    except Exception as error:  # a damaged pickle fails in every way there is
        raise UserError(
            f"{path} is not a file of PyTorch weights, or it is damaged "
            f"({type(error).__name__}: {error})"
        ) from error


def _read_zip(file: BinaryIO) -> Any:
    with zipfile.ZipFile(file) as archive:
        (index,) = (name for name in archive.namelist() if name.endswith("/data.pkl"))
        folder = index.removesuffix("data.pkl")
        if any(info.compress_type != zipfile.ZIP_STORED for info in archive.infolist()):
            raise _Refused("its parts are compressed, which PyTorch's never are")
        content = _Unpickler(io.BytesIO(archive.read(index))).load()

        def read(storage):
            raw = archive.read(f"{folder}data/{storage.key}")
            return np.frombuffer(raw, storage.dtype, storage.length)

        return _fill(content, read)


def _read_legacy(file: BinaryIO) -> Any:
    if _Unpickler(file).load() != LEGACY_MAGIC:
        raise ValueError("it does not begin as one")
    _Unpickler(file).load()  # version of the format
    _Unpickler(file).load()  # of the machine that wrote it
    content = _Unpickler(file).load()
    keys = _Unpickler(file).load()
    storages = {}
    _fill(content, lambda storage: storages.setdefault(storage.key, storage))
    arrays = {}
    for key in keys:
        (length,) = np.frombuffer(file.read(8), "<i8")
        dtype = storages[key].dtype if key in storages else None
        if dtype is None or length != storages[key].length:
            raise ValueError(f"its part {key} is not what its index says")
        raw = file.read(int(length) * dtype.itemsize)
        arrays[key] = np.frombuffer(raw, dtype, int(length))
    return _fill(content, lambda storage: arrays[storage.key])


def _fill(content: Any, read: Callable[[_Storage], Any]) -> Any:
    """The content with an array in place of every tensor."""
    if isinstance(content, _Tensor):
        values = read(content.storage)
        if not isinstance(values, np.ndarray):
            return values
        strides = [stride * values.itemsize for stride in content.strides]
        view = np.lib.stride_tricks.as_strided(
            values[content.offset :], content.shape, strides, writeable=False
        )
        array = np.ascontiguousarray(view).reshape(content.shape)
        return array.astype(np.float32) if array.dtype == ml_dtypes.bfloat16 else array
    if isinstance(content, dict):
        return {key: _fill(value, read) for key, value in content.items()}
    if isinstance(content, list | tuple) and not isinstance(content, _Storage):
        return [_fill(value, read) for value in content]
    return content
