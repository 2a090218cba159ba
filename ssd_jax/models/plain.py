"""The network in the operations that other programs have.

On its own, a network computes depthwise convolutions, pooling and large convolutions in the ways
that are fastest in XLA. What is exported leaves as one operation each.
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
