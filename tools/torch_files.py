"""Writes files in PyTorch's formats, without PyTorch."""

import collections
import contextlib
import io
import pickle
import sys
import types
import zipfile
from pathlib import Path

import numpy as np

LEGACY_MAGIC = 0x1950A86A20F9469CFC6C


class Storage:
    """The values in a file; tensors are parts of them."""

    def __init__(self, key: str, values: np.ndarray, kind: str = "FloatStorage"):
        self.key, self.values, self.kind = key, values, kind


class Tensor:
    """A part of a storage; strides count values."""

    def __init__(self, storage, shape, strides=None, offset=0):
        self.storage, self.shape, self.offset = storage, shape, offset
        contiguous = [int(np.prod(shape[i + 1 :])) for i in range(len(shape))]
        self.strides = tuple(contiguous) if strides is None else strides

    def __reduce__(self):
        arguments = (
            self.storage,
            self.offset,
            self.shape,
            self.strides,
            False,
            collections.OrderedDict(),
        )
        return sys.modules["torch._utils"]._rebuild_tensor_v2, arguments


@contextlib.contextmanager
def _names_of_torch():
    """A replacement for a name of PyTorch in a pickle."""
    torch, utils = types.ModuleType("torch"), types.ModuleType("torch._utils")

    def _rebuild_tensor_v2(*_):
        raise AssertionError("only ever named")

    _rebuild_tensor_v2.__module__ = "torch._utils"
    _rebuild_tensor_v2.__qualname__ = "_rebuild_tensor_v2"
    vars(utils)["_rebuild_tensor_v2"] = _rebuild_tensor_v2
    for kind in ("Float", "Half", "Long", "BFloat16"):
        name = f"{kind}Storage"
        setattr(torch, name, type(name, (), {"__module__": "torch"}))
    before = {name: sys.modules.get(name) for name in ("torch", "torch._utils")}
    sys.modules |= {"torch": torch, "torch._utils": utils}
    try:
        yield torch
    finally:
        for name, module in before.items():
            sys.modules.pop(name)
            if module is not None:
                sys.modules[name] = module


def _pickle(content, protocol: int) -> tuple[bytes, dict[str, Storage]]:
    file, storages = io.BytesIO(), {}
    with _names_of_torch() as torch:

        class Pickler(pickle.Pickler):
            def persistent_id(self, thing):
                if not isinstance(thing, Storage):
                    return None
                storages[thing.key] = thing
                kind = getattr(torch, thing.kind)
                location = ("storage", kind, thing.key, "cpu", len(thing.values))
                return location if protocol == 2 else (*location, None)

        Pickler(file, 2).dump(content)
    return file.getvalue(), storages


def save_zip(path: Path, content, compression=zipfile.ZIP_STORED) -> None:
    """The format since 1.6."""
    index, storages = _pickle(content, 2)
    with zipfile.ZipFile(path, "w", compression) as archive:
        archive.writestr("archive/data.pkl", index)
        archive.writestr("archive/version", "3\n")
        for key, storage in storages.items():
            archive.writestr(f"archive/data/{key}", storage.values.tobytes())


def save_legacy(path: Path, content) -> None:
    """The format before 1.6."""
    index, storages = _pickle(content, 1)
    with path.open("wb") as file:
        for part in (LEGACY_MAGIC, 1001, {"little_endian": True}):
            pickle.dump(part, file, protocol=2)
        file.write(index)
        pickle.dump(list(storages), file, protocol=2)
        for storage in storages.values():
            file.write(np.int64(len(storage.values)).tobytes())
            file.write(storage.values.tobytes())


def state_dict(tensors: dict[str, np.ndarray]) -> collections.OrderedDict:
    """Arrays as a state dict to be saved."""
    return collections.OrderedDict(
        (name, Tensor(Storage(str(i), np.ravel(array).astype(np.float32)), array.shape))
        for i, (name, array) in enumerate(tensors.items())
    )
