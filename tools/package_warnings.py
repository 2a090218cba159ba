"""Collects warnings of the package."""

import contextlib
import logging
from collections.abc import Iterator


class Warnings(logging.Handler):
    """Warnings of the package."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.messages: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.messages.append(record.getMessage())

    @contextlib.contextmanager
    def collect(self) -> Iterator[None]:
        """Collects the warnings of a block instead of showing them."""
        logger = logging.getLogger("ssd_jax")
        level, propagate = logger.level, logger.propagate
        logger.addHandler(self)
        logger.setLevel(logging.WARNING)
        logger.propagate = False
        try:
            yield
        finally:
            logger.removeHandler(self)
            logger.setLevel(level)
            logger.propagate = propagate
