"""Suppresses log messages, or collects them as findings."""

import contextlib
import logging
from collections.abc import Iterator

from ssd_jax.diagnostics.findings import Report


@contextlib.contextmanager
def as_findings(report: Report, spec: str) -> Iterator[None]:
    """Adds the log messages of data formats as findings."""
    messages: list[str] = []
    handler = logging.Handler()
    handler.emit = lambda record: messages.append(record.getMessage())
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
        for message in messages:
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
