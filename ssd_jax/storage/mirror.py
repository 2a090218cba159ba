"""Mirrors a local folder to a place in an object store, for the process that owns the place.

Every `PASS_SECONDS` a thread copies changed files to the store; a file replaces its object whole.
Groups of files, like those of a checkpoint, are sent with their checksums last: readers ignore a
group without checksums. `owner.json` names the process that writes, and is its heartbeat: it is
written again every `HEARTBEAT_SECONDS`. If it is older than `OWNED_SECONDS`, another process may
claim the place.
"""

import contextlib
import itertools
import json
import logging
import os
import secrets
import socket
import tempfile
import threading
import time
from collections.abc import Iterable
from pathlib import Path

from ssd_jax.errors import UserError
from ssd_jax.storage import clouds
from ssd_jax.storage.checksums import CHECKSUMS_FILE
from ssd_jax.storage.locks import LOCK
from ssd_jax.storage.replacing import UNFINISHED

logger = logging.getLogger(__name__)

OWNER = "owner.json"
HEARTBEAT_SECONDS = 10.0
PASS_SECONDS = 30.0
OWNED_SECONDS = 60.0
SETTLING_SECONDS = 1.0  # in which processes that start at the same time have written their claims


class Mirror:
    """Copies a folder to a place in an object store.

    Attributes:
      is_lost: whether another process has claimed the place; then nothing is copied any more.
    """

    def __init__(self, folder: Path, place: str):
        """Claims the place.

        Args:
          folder: the folder to copy; its present files are in the store already.
          place: the destination.

        Raises:
          UserError: another process owns the place, or the store cannot be reached.
        """
        self.is_lost = False
        self._folder, self._place = folder, place
        self._token = secrets.token_hex(8)
        self._started = time.strftime("%Y-%m-%d %H:%M:%S%z")
        self._sent = self._files()
        self._claim()
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._keep_copying, daemon=True)

    def start(self) -> None:
        """Removes objects without a file in the folder, and begins to copy."""
        self._thread.start()

    def check(self) -> None:
        """Raises a `UserError` if another process has claimed the place."""
        if self.is_lost:
            raise UserError(
                f"{self._place} was taken over by another process, because this one sent no "
                f"heartbeat for {OWNED_SECONDS:.0f} s: it ends, and the other one continues"
            )

    def end(self) -> None:
        """Copies the rest and releases the place.

        Raises:
          UserError: the rest cannot be copied.
        """
        self._ending.set()
        if self._thread.ident is not None:
            self._thread.join()
        if not self.is_lost:
            self.copy()
            clouds.remove(self._place, [OWNER])

    def copy(self) -> None:
        """Copies changed files and removes objects without a file.

        Raises:
          UserError: the store cannot be reached or refuses; copied files are remembered.
        """
        files = self._files()
        changed = [name for name, state in files.items() if self._sent.get(name) != state]
        for names in _in_order(changed):
            # Files that are removed during the transfer, like an old checkpoint, are sent too.
            with tempfile.TemporaryDirectory(dir=self._folder.parent) as snapshot:
                there = _link(self._folder, Path(snapshot), names)
                clouds.send(Path(snapshot), self._place, there)
            self._sent.update({name: files[name] for name in there})
        # After its replacement was sent, and the checksums first.
        gone = self._sent.keys() - self._files().keys()
        for names in (filter(_is_last, gone), itertools.filterfalse(_is_last, gone)):
            clouds.remove(self._place, list(names))
        for name in gone:
            del self._sent[name]

    def _files(self) -> dict[str, tuple[int, int]]:
        """Size and time of every complete file."""
        found = {}
        for parent, folders, names in os.walk(self._folder):
            folders[:] = [name for name in folders if not _is_unfinished(name)]
            for name in names:
                path = Path(parent, name)
                inside = path.relative_to(self._folder).as_posix()
                if not _is_unfinished(name) and inside != LOCK:
                    with contextlib.suppress(FileNotFoundError):
                        status = path.stat()
                        found[inside] = (status.st_size, status.st_mtime_ns)
        return found

    def _claim(self) -> None:
        owner = f"{self._place}/{OWNER}"
        age = clouds.age_of(owner)
        if age is not None and age < OWNED_SECONDS:
            self._refuse(age)
        self._beat()
        time.sleep(SETTLING_SECONDS)
        if not self._is_own():
            self._refuse(SETTLING_SECONDS)

    def _refuse(self, age: float) -> None:
        described = self._owner()
        who = ""
        if {"process", "host", "time"} <= described.keys():
            who = " (number {process} on {host}, started {time})".format_map(described)
        raise UserError(
            f"{self._place} is in use by another process{who}, with a heartbeat {max(age, 0):.0f} "
            "s ago: wait until it ends, or name another work directory; if it was killed, start "
            f"again in {max(OWNED_SECONDS - age, 1):.0f} s"
        )

    def _owner(self) -> dict[str, object]:
        content = clouds.read(f"{self._place}/{OWNER}")
        try:
            owner = json.loads(content or b"{}")
        except ValueError:
            return {}
        return owner if isinstance(owner, dict) else {}

    def _is_own(self) -> bool:
        return self._owner().get("token") == self._token

    def _beat(self) -> None:
        owner = {
            "token": self._token,
            "process": os.getpid(),
            "host": socket.gethostname(),
            "time": self._started,
        }
        clouds.write(f"{self._place}/{OWNER}", json.dumps(owner).encode())

    def _keep_copying(self) -> None:
        last_pass, failed = time.monotonic(), False
        while not self._ending.wait(HEARTBEAT_SECONDS):
            try:
                if not self._is_own():
                    self.is_lost = True
                    return
                self._beat()
                if time.monotonic() - last_pass >= PASS_SECONDS:
                    self.copy()
                    last_pass = time.monotonic()
                failed = False
            except (UserError, OSError) as error:  # the network may work again later
                if not failed:
                    logger.warning("%s; it will be tried again", error)
                failed = True


def _link(folder: Path, snapshot: Path, names: Iterable[str]) -> list[str]:
    """Links files into another folder; returns those that exist."""
    there = []
    for name in names:
        (snapshot / name).parent.mkdir(parents=True, exist_ok=True)
        with contextlib.suppress(FileNotFoundError):
            os.link(folder / name, snapshot / name)
            there.append(name)
    return there


def _is_unfinished(name: str) -> bool:
    """Whether a file or folder is incomplete: one of ours, or one of Orbax."""
    return (name.startswith(".") and UNFINISHED in name) or "orbax-checkpoint-tmp" in name


def _is_last(name: str) -> bool:
    return name.rpartition("/")[2] == CHECKSUMS_FILE


def _in_order(names: Iterable[str]) -> list[list[str]]:
    """Groups names, in the order of sending.

    The files that describe the run come first, then each checkpoint, with its checksums last.
    """
    files = sorted(names)
    groups = [[name for name in files if not name.startswith("checkpoints/")]]
    rest = [name for name in files if name.startswith("checkpoints/")]
    for folder in dict.fromkeys(name.rsplit("/", len(name.split("/")) - 2)[0] for name in rest):
        inside = [name for name in rest if name.startswith(f"{folder}/") or name == folder]
        groups += [[name for name in inside if not _is_last(name)], list(filter(_is_last, inside))]
    return [group for group in groups if group]
