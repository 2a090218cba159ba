"""Leaves a notice of LiteRT out of stderr."""

import contextlib
import os
import tempfile
import threading
from collections.abc import Iterator

STDERR = 2
NOTICE = b"INFO: Created TensorFlow Lite"  # written in C++ when a network starts; no setting helps

_one_at_a_time = threading.Lock()  # two threads would restore each other's stderr


@contextlib.contextmanager
def without_notice() -> Iterator[None]:
    """A short block in which the notice is left out of stderr; other lines follow at its end.

    Changes nothing if stderr is closed, or no temporary file can be written.
    """
    with _one_at_a_time, contextlib.ExitStack() as stack:
        try:
            written = stack.enter_context(tempfile.TemporaryFile())
            kept = os.dup(STDERR)
        except OSError:
            yield
            return
        os.dup2(written.fileno(), STDERR)
        try:
            yield
        finally:
            os.dup2(kept, STDERR)
            os.close(kept)
            written.seek(0)
            for line in written:
                if not line.startswith(NOTICE):
                    os.write(STDERR, line)
