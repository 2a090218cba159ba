"""Keeps the placeholders and copies of data in stores in the user's cache folder.

The processes of a machine use them together, and later starts find them. The name of an entry is
the digest of a listing of its place, so an entry never changes. An entry with missing files, for
example after a power failure, is replaced. An entry is removed when no process has used it for a
week.
"""

import atexit
import contextlib
import hashlib
import json
import os
import secrets
import shutil
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from filelock import BaseFileLock, FileLock

from ssd_jax.errors import UserError
from ssd_jax.storage import clouds
from ssd_jax.storage.caches import cache_folder
from ssd_jax.storage.clouds import Object
from ssd_jax.storage.locks import locked_in_turn
from ssd_jax.storage.replacing import replacing, unfinished_name

VERSION = 1  # must be raised when the same listing gives other files
UNUSED = 7 * 24 * 3600  # seconds after which an entry is removed
LATEST = "latest.json"  # a random name of the latest listing, and its entry; "" if unfinished
USERS = "users"  # the folder of an entry with a locked file for each process that uses it

Make = Callable[[Path, Mapping[str, Object]], None]

_held: list[BaseFileLock] = []  # until this process ends


def entry_of(place: str, make: Make) -> Path | None:
    """The folder with the placeholders and copies of a place; None if there can be no cache.

    Args:
      place: in a store.
      make: writes them into an empty folder, according to a listing.

    Raises:
      UserError: the store cannot be reached; or `make` raises it.
    """
    with contextlib.ExitStack() as stack:
        try:
            folder = Path(os.path.realpath(cache_folder("data"))) / _digest(place)
            folder.mkdir(exist_ok=True)
            before, _ = _latest(folder)
            stack.enter_context(locked_in_turn(folder))
        except (OSError, RuntimeError, UserError):  # the cache is optional
            return None
        try:
            listing, name = _latest(folder)
            # Another process began this listing after this call began.
            is_new = listing != before and name and (folder / name).is_dir()
            entry = folder / name if is_new else _listed(place, folder, make)
        except OSError:  # for example, the disk is full
            return None
        _use(entry)
    _remove_unused(folder.parent)
    return entry


def _latest(folder: Path) -> tuple[str, str]:
    """The latest listing and its entry; "" if unknown. Clocks of machines differ, names do not."""
    try:
        latest = json.loads((folder / LATEST).read_text())
        return str(latest["listing"]), str(latest["entry"])
    except (OSError, ValueError, KeyError, TypeError):
        return "", ""


def _note(folder: Path, listing: str, entry: str) -> None:
    with replacing(folder / LATEST, survives_power_loss=False) as unfinished:
        unfinished.write_text(json.dumps({"listing": listing, "entry": entry}))


def _listed(place: str, folder: Path, make: Make) -> Path:
    """The entry of a new listing."""
    listing = secrets.token_hex(8)
    _note(folder, listing, "")
    found = clouds.objects_at(place)
    entry = folder / _digest(VERSION, sorted(found.items()))
    if not _is_whole(entry, place, found):
        made = folder / unfinished_name()
        try:
            made.mkdir()
            make(made, found)
        except BaseException:
            shutil.rmtree(made, ignore_errors=True)
            raise
        if found and not _is_same(place, found):  # the copies may be of newer objects
            return made
        if _is_used(entry):
            return made
        _remove(entry)
        made.rename(entry)
    _note(folder, listing, entry.name)
    return entry


def _is_whole(entry: Path, place: str, found: Mapping[str, Object]) -> bool:
    """Whether an entry has all files: a power failure or another program may remove some."""
    path = entry.joinpath(*clouds.parts_of(place))
    names = [name for name in found if name] or list(found)  # a folder hides a file of its name
    try:
        return entry.is_dir() and all(
            (path / name).stat().st_size == found[name].size for name in names
        )
    except OSError:
        return False


def _is_same(place: str, found: Mapping[str, Object]) -> bool:
    """Whether a place certainly still has these objects."""
    return all(about.mark for about in found.values()) and clouds.objects_at(place) == found


def _digest(*values: object) -> str:
    return hashlib.sha256(json.dumps(values).encode(errors="surrogatepass")).hexdigest()[:32]


def _use(entry: Path) -> None:
    """Marks an entry as used until this process ends, and removes the marks of killed processes."""
    with contextlib.suppress(OSError, NotImplementedError):
        os.utime(entry)
        users = entry / USERS
        users.mkdir(exist_ok=True)
        for file in users.iterdir():
            if not _is_locked(file):
                file.unlink()
        lock = _lock(users / secrets.token_hex(8))
        lock.acquire()
        _held.append(lock)


@atexit.register
def _end_use() -> None:
    for lock in _held:
        with contextlib.suppress(OSError):
            lock.release()
            file = Path(lock.lock_file)
            file.unlink(missing_ok=True)
            os.utime(file.parents[1])


def _remove_unused(folder: Path) -> None:
    """Removes the entries of all places that no process has used for a week."""
    for entry in folder.glob("*/*"):
        with contextlib.suppress(OSError, UserError):
            if entry.is_dir() and time.time() - entry.stat().st_mtime > UNUSED:
                with locked_in_turn(entry.parent):
                    if not _is_used(entry):
                        _remove(entry)


def _remove(entry: Path) -> None:
    """Removes an entry, if it exists; if the process is killed meanwhile, it is not used either."""
    removed = entry.with_name(unfinished_name())
    with contextlib.suppress(FileNotFoundError):
        entry.rename(removed)
    shutil.rmtree(removed, ignore_errors=True)


def _is_used(entry: Path) -> bool:
    return any(map(_is_locked, (entry / USERS).glob("*")))


def _is_locked(file: Path) -> bool:
    """Whether a process, maybe on another machine, has locked a file."""
    try:
        lock = _lock(file)
        lock.acquire()
        lock.release()
    except (OSError, NotImplementedError):  # also `Timeout`: it is locked
        return True
    return False


def _lock(file: Path) -> BaseFileLock:
    return FileLock(file, timeout=0, fallback_to_soft=False, thread_local=False)
