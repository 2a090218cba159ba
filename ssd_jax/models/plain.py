"""Depthwise convolutions and pooling as single operations, for export to other programs.

By default a network computes them in the way that is fastest in XLA, above all on CPUs. In exported
files each is one operation; `plain_convolutions` does the same for other convolutions.
"""

import contextlib
import contextvars
from collections.abc import Iterator

_is_plain = contextvars.ContextVar("_is_plain", default=False)


def is_plain() -> bool:
    """Whether the current trace is exported to other programs."""
    return _is_plain.get()


@contextlib.contextmanager
def plain_operations() -> Iterator[None]:
    """A block that is traced with one operation for each layer, without custom gradients."""
    token = _is_plain.set(True)
    try:
        yield
    finally:
        _is_plain.reset(token)
