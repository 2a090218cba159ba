"""Stores arrays and strings in the files of a folder, and maps them into memory.

All processes of a machine share the mapped memory.
"""

import hashlib
import json
import mmap
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, cast

import numpy as np

from ssd_jax.data.columns import Strings
from ssd_jax.storage.files import open_file

DETAILS = "details.json"
# Columns with the positions in another column at which items end, after a 0: `Columns.splits`.
ENDS = ("splits",)
PIECE = 2**22  # the number of bytes that are read together


class Table(NamedTuple):
    """The content of the files of a folder.

    Attributes:
      columns: arrays and `Strings` by name.
      details: other content, in types of JSON.
    """

    columns: dict[str, Any]
    details: dict[str, Any]


def save_table(table: Table, folder: Path) -> None:
    """Writes a table, and the digests of its files, into an empty folder."""
    join_tables([table.columns], table.details, folder)


def join_tables(pieces: Sequence[Mapping[str, Any]], details: dict[str, Any], folder: Path) -> None:
    """Writes the rows of all pieces as one table; together, they may be larger than memory.

    Args:
      pieces: columns with the same names.
      details: the details of the table.
      folder: an empty folder.
    """
    for name, first in pieces[0].items():
        own = [piece[name] for piece in pieces]
        if isinstance(first, Strings):
            strings = [each.packed() for each in cast("list[Strings]", own)]
            with (folder / name).open("wb") as file:
                for each in strings:
                    file.write(each.content[:])
            _join(_ends(folder / name), _with_offsets([each.ends for each in strings]))
        elif name in ENDS:
            start = np.zeros(1, np.int64)
            _join(folder / f"{name}.npy", [start, *_with_offsets([each[1:] for each in own])])
        else:
            _join(folder / f"{name}.npy", own)
    digests = {path.name: file_digest(path) for path in sorted(folder.iterdir())}
    (folder / DETAILS).write_text(json.dumps({"digests": digests, "details": details}))


def _with_offsets(ends: Sequence[np.ndarray]) -> list[np.ndarray]:
    """The ends of items of several pieces, after the pieces are concatenated."""
    starts = np.cumsum([0, *(int(own[-1]) if len(own) else 0 for own in ends)])
    return [own + start for own, start in zip(ends, starts.tolist(), strict=False)]


def _join(file: Path, arrays: Sequence[np.ndarray]) -> None:
    """Writes the concatenation of arrays, with only one of them in memory."""
    shape = (sum(map(len, arrays)), *arrays[0].shape[1:])
    header = {"descr": arrays[0].dtype.str, "fortran_order": False, "shape": shape}
    with file.open("wb") as opened:
        np.lib.format.write_array_header_1_0(opened, header)
        for array in arrays:
            np.ascontiguousarray(array).tofile(opened)


def load_table(folder: Path) -> Table | None:
    """Maps the table of a folder; None if it does not exist or one of its files is damaged."""
    try:
        content = json.loads((folder / DETAILS).read_text())
        digests, details = content["digests"], content["details"]
        if any(file_digest(folder / name) != digest for name, digest in digests.items()):
            return None
        columns = dict(_loaded(folder, digests))
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None
    return Table(columns, details)


def _loaded(folder: Path, names: Mapping[str, str]) -> Iterator[tuple[str, Any]]:
    for name in names:
        if not name.endswith(".npy"):
            yield name, _mapped_strings(folder / name)
        elif _ends(folder / name.removesuffix("_ends.npy")).name != name:
            yield name.removesuffix(".npy"), _mapped(folder / name)


def _ends(file: Path) -> Path:
    return file.with_name(f"{file.name}_ends.npy")


def _mapped(file: Path) -> np.ndarray:
    try:
        return np.asarray(np.load(file, mmap_mode="r", allow_pickle=False))
    except ValueError:  # an array without elements cannot be mapped
        return np.load(file, allow_pickle=False)


def _mapped_strings(file: Path) -> Strings:
    with file.open("rb") as opened:
        is_empty = os.fstat(opened.fileno()).st_size == 0
        content = b"" if is_empty else mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_READ)
    return Strings.joined(content, _mapped(_ends(file)))


def file_digest(file: Path) -> str:
    """The SHA-256 of a file."""
    digest = hashlib.sha256()
    with open_file(file, buffering=0) as opened:
        while piece := opened.read(PIECE):
            digest.update(piece)
    return digest.hexdigest()
