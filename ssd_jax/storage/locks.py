"""Locks of folders: one process at a time writes to them."""

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path

from filelock import FileLock, Timeout

from ssd_jax.errors import UserError, reason_of

LOCK = "lock"  # the file, in a folder


@contextlib.contextmanager
def locked(
    folder: Path, another: str, holder: Callable[[Path], str] = lambda folder: ""
) -> Iterator[None]:
    """A block during which no other process has a lock on a folder.

    The lock ends with the process, however it ends.

    Args:
      folder: made where it does not exist.
      another: what to name instead, for the message.
      holder: says who may have the lock, for the message.

    Raises:
      UserError: another process has it, or the folder cannot be locked.
    """
    folder.mkdir(parents=True, exist_ok=True)
    try:
        lock = FileLock(folder / LOCK, fallback_to_soft=False)
        lock.acquire(timeout=0)
    except Timeout as error:
        raise UserError(
            f"{folder} is in use by another process{holder(folder)}: wait until it ends, or "
            f"name another {another}"
        ) from error
    except (OSError, NotImplementedError) as error:  # the latter: a file system without locks
        reason = reason_of(error)
        raise UserError(f"{folder / LOCK} cannot be written or locked: {reason}") from error
    try:
        yield
    finally:
        lock.release()
