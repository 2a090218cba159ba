"""Leaves a notice of LiteRT out of stderr."""

import contextlib
import os
import tempfile
from collections.abc import Iterator

STDERR = 2
NOTICE = b"INFO: Created TensorFlow Lite"  # written in C++ when a network starts; no setting helps


@contextlib.contextmanager
def without_notice() -> Iterator[None]:
    """A short block in which the notice is left out of stderr; other lines follow at its end."""
    try:
        kept = os.dup(STDERR)
    except OSError:  # it is closed
        yield
        return
    with tempfile.TemporaryFile() as written:
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
