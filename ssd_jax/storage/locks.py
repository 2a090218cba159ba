"""Locks of folders: one process at a time writes to them."""

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path

from filelock import BaseFileLock, FileLock, Timeout

from ssd_jax.errors import UserError, reason_of

LOCK = "lock"  # the file, in a folder


@contextlib.contextmanager
def locked(
    folder: Path, another: str, holder: Callable[[Path], str] = lambda folder: ""
) -> Iterator[None]:
    """A block with the lock of a folder, which only one process has at a time.

    The lock ends with the process, also if that is killed.

    Args:
      folder: created if it does not exist.
      another: the kind of folder to name instead, for the message.
      holder: describes the process that may have the lock, for the message.

    Raises:
      UserError: another process has the lock, or the folder cannot be locked.
    """
    folder.mkdir(parents=True, exist_ok=True)
    try:
        lock = _acquire(folder, timeout=0)
    except Timeout as error:
        raise UserError(
            f"{folder} is in use by another process{holder(folder)}: wait until it ends, or "
            f"name another {another}"
        ) from error
    try:
        yield
    finally:
        lock.release()


@contextlib.contextmanager
def locked_in_turn(folder: Path) -> Iterator[None]:
    """A block for one process at a time; the others wait.

    Args:
      folder: an existing folder, whose lock is used.

    Raises:
      UserError: the folder cannot be locked.
    """
    lock = _acquire(folder, timeout=-1)
    try:
        yield
    finally:
        lock.release()


def _acquire(folder: Path, timeout: float) -> BaseFileLock:
    """Acquires the lock of a folder within `timeout` seconds; -1 = no limit."""
    try:
        lock = FileLock(folder / LOCK, fallback_to_soft=False)
        lock.acquire(timeout=timeout)
    except Timeout:
        raise
    except (OSError, NotImplementedError) as error:  # the latter: a file system without locks
        reason = reason_of(error)
        raise UserError(f"{folder / LOCK} cannot be written or locked: {reason}") from error
    return lock
