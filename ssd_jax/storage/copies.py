"""Local copies of objects in object stores, and results that are sent there.

Code that reads or writes a path of a user gets a local path here. A local path is returned
unchanged. For `gs://…` and `s3://…`, the objects are copied first, or sent at the end. Copies are
in a temporary folder until the process ends. A second request updates a copy: only changed objects
are copied again.
"""

import atexit
import contextlib
import functools
import os
import shutil
import tempfile
from collections.abc import Callable, Collection, Iterator
from pathlib import Path

from ssd_jax.errors import UserError, shown_instead
from ssd_jax.storage import clouds
from ssd_jax.storage.checksums import CHECKSUMS_FILE, keep_checksums
from ssd_jax.storage.clouds import Object, is_remote
from ssd_jax.storage.files import AnyPath, local_path, read_bytes

_known: dict[Path, dict[str, Object]] = {}  # the copied objects, by the folder of the copy


def local_copy(
    place: AnyPath,
    wanted: Callable[[Collection[str]], Collection[str]] = lambda names: names,
    below: str = "in",
    may_be_missing: bool = False,
) -> Path:
    """A local path with the content of a place: the place itself, or a copy.

    Args:
      place: a path, or the place of an object, or the common beginning of several.
      wanted: of the paths of objects below the place, those to copy.
      below: distinguishes several copies of one place.
      may_be_missing: whether a place without objects gives an empty folder.

    Raises:
      UserError: the path has another scheme, the store cannot be reached, or the place has no
        objects.
    """
    if not is_remote(place):
        return local_path(place)
    objects = clouds.objects_at(str(place))
    if not objects and not may_be_missing:
        raise UserError(f"{place} does not exist: there is no such object, and none below it")
    copy = copy_place(str(place), below)
    if "" in objects:  # one object, even if others are below its name
        objects = {"": objects[""]}
    else:
        copy.mkdir(parents=True, exist_ok=True)
        objects = {name: objects[name] for name in wanted(objects)}
    before = _known.get(copy, {})
    for name in before.keys() - objects.keys():
        (copy / name).unlink(missing_ok=True)
    changed = [name for name, found in objects.items() if before.get(name) != found]
    clouds.fetch(str(place), copy, changed)
    _known[copy] = objects
    return copy


@contextlib.contextmanager
def sending(
    place: AnyPath, last: str = CHECKSUMS_FILE, even_unfinished: bool = False
) -> Iterator[Path]:
    """A block with a local path for a file or folder, which is sent to its place at the end.

    A local place is written directly. If the block raises, nothing is sent.

    Args:
      place: where results go.
      last: the name of the file that lists the others for readers, and is sent after them.
      even_unfinished: whether existing files are sent also if the block raises.

    Raises:
      UserError: the path has another scheme, or the store cannot be reached.
    """
    if not is_remote(place):
        yield local_path(place)
        return
    clouds.objects_at(f"{place}/{last}")  # checks the store before work that takes long
    copy = copy_place(str(place), "out")
    if copy.is_dir():  # of an earlier result
        shutil.rmtree(copy)
    copy.unlink(missing_ok=True)
    copy.parent.mkdir(parents=True, exist_ok=True)
    try:
        yield copy
    except BaseException:
        if even_unfinished:
            _send_all(copy, str(place), last)
        raise
    _send_all(copy, str(place), last)


def _send_all(copy: Path, place: str, last: str) -> None:
    if not copy.is_dir():
        clouds.send(copy, place, [""] if copy.exists() else [])
        return
    names = [file.relative_to(copy).as_posix() for file in copy.rglob("*") if file.is_file()]
    if CHECKSUMS_FILE in names:
        before = clouds.read(f"{place}/{CHECKSUMS_FILE}")
        if before is not None:
            keep_checksums(copy, before, clouds.objects_at(place).__contains__)
    clouds.send(copy, place, sorted(name for name in names if name != last))
    clouds.send(copy, place, [last] if last in names else [])


def top_level(names: Collection[str]) -> list[str]:
    """The paths of files that are in no folder."""
    return [name for name in names if "/" not in name]


def bytes_in(folder: AnyPath, name: str) -> bytes | None:
    """The bytes of a small file in a folder; None if it does not exist or cannot be read."""
    if is_remote(folder):
        return clouds.read(f"{folder}/{name}")
    try:
        return read_bytes(local_path(folder) / name)
    except OSError:
        return None


def name_of(place: AnyPath) -> str:
    """The name of a file or folder that a user named."""
    return clouds.file_name(str(place)) if is_remote(place) else local_path(place).name


def copy_place(place: str, below: str) -> Path:
    """The path of the copy of a place; its parents need not exist.

    Messages show the place instead of the copy.
    """
    scheme, bucket, key = clouds.parts_of(place)
    root = folder_of_copies() / below
    shown_instead(f"{root / scheme}/", f"{scheme}://")
    return root / scheme / bucket / key


@functools.cache
def folder_of_copies() -> Path:
    """A folder that is removed when the process ends."""
    atexit.register(remove_copies)
    return Path(os.path.realpath(tempfile.mkdtemp(prefix="ssd_jax_")))


def remove_copies() -> None:
    """Removes all copies, before a process ends without the functions of `atexit`."""
    if folder_of_copies.cache_info().currsize:
        shutil.rmtree(folder_of_copies(), ignore_errors=True)
        folder_of_copies.cache_clear()
        _known.clear()
