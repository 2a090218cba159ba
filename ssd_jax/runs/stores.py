"""Work directories in object stores: local copies for reading and for training."""

import contextlib
import functools
import logging
import os
import re
import shutil
import signal
import tempfile
import threading
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from types import FrameType

from ssd_jax.distributed import devices, exchange
from ssd_jax.errors import Interrupted, UserError
from ssd_jax.storage import clouds
from ssd_jax.storage.checksums import CHECKSUMS_FILE
from ssd_jax.storage.clouds import is_remote
from ssd_jax.storage.copies import copy_place, local_copy
from ssd_jax.storage.files import AnyPath, local_path
from ssd_jax.storage.mirror import Mirror
from ssd_jax.storage.outputs import check_writable
from ssd_jax.training.checkpoints import saved_steps
from ssd_jax.training.hooks import Hook
from ssd_jax.training.interruption import SIGNALS, name_of

logger = logging.getLogger(__name__)

NOTICE_SECONDS = 5.0  # until a message says that files are still sent
CHECKPOINT = re.compile(r"checkpoints/(\d+)/(.*)")


def run_copy(place: AnyPath) -> Path:
    """A local path of a work directory, with the description and the weights of its run.

    Raises:
      UserError: see `local_copy`.
    """
    return local_copy(place, functools.partial(_of_run, leaves_out=("training/",)))


def steps_at(place: AnyPath) -> list[int]:
    """The steps of complete checkpoints in a work directory, on every process; see `run_copy`."""
    return exchange.from_main_process(_steps_at(place) if devices.is_main_process() else [])


def _steps_at(place: AnyPath) -> list[int]:
    if is_remote(place):
        return sorted(_complete(clouds.objects_at(str(place))))
    return saved_steps(local_path(place) / "checkpoints")


@contextlib.contextmanager
def training_copy(place: AnyPath) -> Iterator[tuple[Path, list[Hook]]]:
    """A block with a local path of a work directory; all changes are sent to its store.

    For a work directory in a store, the path is that of a copy. Only the main process has it; other
    processes read and write nothing there.

    Yields:
      The path, and hooks for the run.

    Raises:
      UserError: the folder cannot be written, the store cannot be reached, or another run trains
        there.
      Interrupted: SIGTERM or SIGINT was received while the last files were sent.
    """
    if not is_remote(place):
        folder = local_path(place)
        if devices.is_main_process():
            if folder.is_file():
                raise UserError(f"{folder} is a file, but must be a folder: name another")
            check_writable(folder, tries=True)
        yield folder, []
        return
    place = str(place).rstrip("/")
    if not devices.is_main_process():
        yield copy_place(place, "run"), [Hook()]  # all processes call the same number of hooks
        return
    objects = clouds.objects_at(place)
    folder = local_copy(place, _of_run, "run", may_be_missing=True)
    mirror = Mirror(folder, place)
    clouds.remove(place, _incomplete(objects))
    mirror.start()
    try:
        yield folder, [_Owned(mirror)]
    finally:
        try:
            with _interruptible(place):
                mirror.end()
        except (UserError, OSError, Interrupted) as error:
            kept = Path(tempfile.mkdtemp(prefix="ssd_jax_run_"), folder.name)
            shutil.move(os.fspath(folder), kept)
            message = f"{error}; the files that were not copied are kept in {kept}"
            if isinstance(error, Interrupted):
                raise Interrupted(f"{message}, and {place} has the earlier ones") from error
            raise UserError(message) from error


@contextlib.contextmanager
def _interruptible(place: str) -> Iterator[None]:
    """A block in which SIGTERM and Ctrl-C raise `Interrupted`, and which says so if it takes long.

    Otherwise they would end the program at once, and the files would be lost.
    """

    def stop(number: int, frame: FrameType | None) -> None:
        del frame
        raise Interrupted(f"{name_of(number)}: stopped before all files were sent to {place}")

    message = "sending the last files to %s; Ctrl-C: end, and keep them on this machine"
    notice = threading.Timer(NOTICE_SECONDS, logger.warning, (message, place))
    notice.daemon = True
    notice.start()
    is_main = threading.current_thread() is threading.main_thread()
    before = {number: signal.signal(number, stop) for number in SIGNALS} if is_main else {}
    wakeup = signal.set_wakeup_fd(-1) if is_main else -1  # of a thread that ends the program
    try:
        yield
    finally:
        notice.cancel()
        for number, handler in before.items():
            signal.signal(number, handler)
        if is_main:
            signal.set_wakeup_fd(wakeup)


class _Owned(Hook):
    """Ends a run whose work directory another process has taken over."""

    def __init__(self, mirror: Mirror):
        self._mirror = mirror

    def scalars(self, step: int, values: Mapping[str, float | None]) -> None:
        """Ends the run if another process has the work directory."""
        self._mirror.check()


def _of_run(names: Collection[str], leaves_out: tuple[str, ...] = ()) -> set[str]:
    """The objects that describe a run, and the objects of its complete checkpoints."""
    complete = _complete(names)
    wanted = {name for name in names if "/" not in name}
    for name in names:
        found = CHECKPOINT.fullmatch(name)
        if found and int(found[1]) in complete and not found[2].startswith(leaves_out):
            wanted.add(name)
    return wanted


def _complete(names: Collection[str]) -> set[int]:
    """The steps of checkpoints with checksums, which are written last."""
    matches = map(CHECKPOINT.fullmatch, names)
    return {int(found[1]) for found in matches if found and found[2] == CHECKSUMS_FILE}


def _incomplete(names: Collection[str]) -> list[str]:
    """The objects of an incomplete checkpoint of a killed process."""
    wanted = _of_run(names)
    return [name for name in names if CHECKPOINT.fullmatch(name) and name not in wanted]
