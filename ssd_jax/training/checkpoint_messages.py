"""Hides messages of the checkpoint libraries that need no action by users."""

import contextlib
import functools
import logging
import sys
from collections.abc import Iterator

OF_READING = ("CheckpointManagerOptions.read_only=True", "Given directory is read only=")


@contextlib.contextmanager
def without_read_only_warnings() -> Iterator[None]:
    """A block in which Orbax does not warn about checkpoints that are opened read-only."""

    def is_other(record: logging.LogRecord) -> bool:
        return not str(record.msg).startswith(OF_READING)

    logger = logging.getLogger("absl")
    logger.addFilter(is_other)
    try:
        yield
    finally:
        logger.removeFilter(is_other)


@functools.cache
def ignore_closed_loops() -> None:
    """Hides tracebacks about other arrays after a save or a restore failed.

    Orbax closes its event loop when the first array fails. Then TensorStore's threads report the
    other arrays to the closed loop, and Python prints a traceback for each. The failure itself is
    raised.
    """
    before = sys.unraisablehook

    def report(unraisable: "sys.UnraisableHookArgs") -> None:
        traceback = unraisable.exc_traceback
        called = traceback.tb_frame.f_code.co_name if traceback else ""
        is_closed = str(unraisable.exc_value) == "Event loop is closed"
        # The first function is the loop's own: it was called from C.
        if not (is_closed and called == "call_soon_threadsafe"):
            before(unraisable)

    sys.unraisablehook = report
