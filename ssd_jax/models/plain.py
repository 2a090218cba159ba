"""Depthwise convolutions and pooling in the operations that other programs have.

On its own, a network computes them in the ways that are fastest in XLA, on CPUs above all. In files
for other programs each is one operation; `plain_convolutions` does the same for the others.
"""

import contextlib
import contextvars
from collections.abc import Iterator

_is_plain = contextvars.ContextVar("_is_plain", default=False)


def is_plain() -> bool:
    """Whether what is traced now leaves for other programs."""
    return _is_plain.get()


@contextlib.contextmanager
def plain_operations() -> Iterator[None]:
    """What is traced within has one operation for each layer, without gradients of its own."""
    token = _is_plain.set(True)
    try:
        yield
    finally:
        _is_plain.reset(token)
