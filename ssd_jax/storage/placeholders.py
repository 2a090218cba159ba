"""Local folders for data in object stores: copies of small files, and placeholders of others.

A place is listed once. Files that describe images are copied. Images and shards, which are most of
the bytes, get empty placeholders of the same size, and are read in the store when they are opened
(`objects.py`). So code that finds and reads data always uses local paths.
"""

import contextlib
import os
from collections.abc import Iterable, Mapping
from pathlib import Path

from ssd_jax.errors import NO_SPACE, UserError, as_named, reason_of, shown_instead
from ssd_jax.storage import clouds, objects
from ssd_jax.storage.clouds import Object, is_remote
from ssd_jax.storage.copies import copy_place, folder_of_copies
from ssd_jax.storage.files import AnyPath
from ssd_jax.storage.placeholder_cache import entry_of

BELOW = "data"  # of the folder of copies, if there can be no cache

_listed: dict[str, Path] = {}  # local paths of places that were listed, with all that is below them


def data_path(place: AnyPath) -> Path:
    """A local path for data, which exists if the data exists; local data has the same path.

    Raises:
      UserError: the store cannot be reached, or there is no such bucket, or there is no space
        for its copies.
    """
    if not is_remote(place):
        return Path(place)
    scheme, bucket, key = clouds.parts_of(str(place))
    if ":" in bucket:  # of BUCKET:SPLIT
        return copy_place(str(place), BELOW)
    whole = f"{scheme}://{bucket}/{key}".rstrip("/")
    for listed, path in _listed.items():
        if f"{whole}/".startswith(f"{listed}/"):
            return path / whole[len(listed) + 1 :]
    root = entry_of(whole, lambda folder, found: _make(whole, folder, found))
    if root is None:
        root = folder_of_copies() / BELOW
        try:
            _make(whole, root, clouds.objects_at(whole))
        except OSError as error:
            raise UserError(
                f"{whole} cannot be copied to {root.parent}: {reason_of(error)}; free space there, "
                "or name another folder by TMPDIR"
            ) from error
    objects.add_folder(_show_places(root, scheme), f"{scheme}://")
    _listed[whole] = root / scheme / bucket / key
    return _listed[whole]


def given_place(path: AnyPath) -> str:
    """The place given by the user for a placeholder or a path below it; other paths unchanged."""
    return as_named(os.fspath(path))


def _show_places(root: Path, scheme: str) -> str:
    """Makes messages show places in a store instead of local paths; returns their folder."""
    folder = f"{root / scheme}/"
    shown_instead(folder, f"{scheme}://")
    return folder


def _make(place: str, root: Path, found: Mapping[str, Object]) -> None:
    """Creates the placeholders and copies of a place.

    Args:
      place: the object, or the common beginning of several.
      root: the folder of the placeholders of all schemes and buckets.
      found: the objects, by their paths from the place.
    """
    scheme, bucket, key = clouds.parts_of(place)
    path = root / scheme / bucket / key
    _show_places(root, scheme)
    if "" in found and len(found) == 1:
        is_copied = objects.is_copied(path.name)
    else:
        found = {name: about for name, about in found.items() if name}
        is_copied = False
    copied = [name for name in found if objects.is_copied(f"{path}/{name}") or is_copied]
    try:
        _make_empty(path, found)
    except OSError as error:
        if error.errno in NO_SPACE:
            raise
        reason = reason_of(error)
        raise UserError(
            f"{error.filename or path} cannot be a file here: {reason}; rename the object"
        ) from error
    clouds.fetch(place, path, copied)


def _make_empty(path: Path, found: Mapping[str, Object]) -> None:
    """Creates files without content, with the sizes of objects."""
    for folder in _parents(path, found):
        folder.mkdir(parents=True, exist_ok=True)
    for name, about in found.items():
        descriptor = os.open(path / name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with contextlib.closing(os.fdopen(descriptor, "wb")) as file:
            file.truncate(about.size)


def _parents(path: Path, names: Iterable[str]) -> dict[Path, None]:
    return dict.fromkeys((path / name).parent for name in names)
