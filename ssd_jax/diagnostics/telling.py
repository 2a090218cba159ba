"""Log messages of the data package: suppressed, or collected as findings."""

import contextlib
import logging
from collections.abc import Iterator

from ssd_jax.diagnostics.findings import Report


@contextlib.contextmanager
def told(report: Report, spec: str) -> Iterator[None]:
    """Adds the log messages of formats as findings."""
    told: list[str] = []
    handler = logging.Handler()
    handler.emit = lambda record: told.append(record.getMessage())
    logger = logging.getLogger("ssd_jax.data.formats")
    level, propagates = logger.level, logger.propagate
    logger.setLevel(logging.INFO)
    logger.propagate = False
    logger.addHandler(handler)
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.setLevel(level)
        logger.propagate = propagates
        for message in told:
            report.add("reading", spec, "", message)


@contextlib.contextmanager
def quiet(name: str) -> Iterator[None]:
    """Suppresses the warnings of a logger."""
    logger = logging.getLogger(name)
    before = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(before)
