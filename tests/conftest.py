"""What the tests of several files share."""

import os
import tempfile
from pathlib import Path

import pytest


def pytest_configure(config):
    """What is compiled is shared by all tests of a session, and leaves nothing in the home.

    Workers and the processes that tests start inherit the variable.
    """
    if "JAX_COMPILATION_CACHE_DIR" not in os.environ:
        folder = tempfile.TemporaryDirectory(ignore_cleanup_errors=True)
        os.environ["JAX_COMPILATION_CACHE_DIR"] = str(Path(folder.name) / "compiled")
        config.add_cleanup(folder.cleanup)


@pytest.fixture(scope="session")
def detector():
    """A `Detector` with random weights, compiled once for all tests of a process."""
    from ssd_jax import Detector
    from tests.random_detector import random_trained

    return Detector(random_trained())
