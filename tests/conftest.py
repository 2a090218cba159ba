"""What the tests of several files share."""

import pytest


@pytest.fixture(scope="session")
def detector():
    """A `Detector` with random weights, compiled once for all tests of a process."""
    from ssd_jax import Detector
    from tests.random_detector import random_trained

    return Detector(random_trained())
