"""What the tests of several files share."""

import os
import tempfile
from pathlib import Path

import pytest

# Begun first, so that no process is left with one of them in the end.
LONG_ONES = [
    "tests/end_to_end/test_survival.py",
    "tests/training/test_steps.py",
    "tests/end_to_end/test_scripts.py",
    "tests/benchmark/test_benchmark.py",
    "tests/models/test_network.py",
    "tests/interop/test_convert.py",
    "tests/runs/test_sweep.py",
    "tests/end_to_end/test_every_config.py",
]

QUICK_TO_COMPILE = (
    "--xla_backend_optimization_level=0 "
    "--xla_backend_extra_options=xla_cpu_disable_new_fusion_emitters"
)


def pytest_collection_modifyitems(items):
    """Files that take long come first."""

    def place(item):
        file = item.nodeid.partition("::")[0]
        return LONG_ONES.index(file) if file in LONG_ONES else len(LONG_ONES)

    items.sort(key=place)


def pytest_configure(config):
    """What is compiled is shared by all tests of a session, and leaves nothing in the home.

    On a CPU compiling takes longer than running, so it is done in the quickest way. Workers and the
    processes that tests start inherit the variables.
    """
    os.environ.setdefault("XLA_FLAGS", QUICK_TO_COMPILE)
    if "JAX_COMPILATION_CACHE_DIR" not in os.environ:
        folder = tempfile.TemporaryDirectory(ignore_cleanup_errors=True)
        os.environ["JAX_COMPILATION_CACHE_DIR"] = str(Path(folder.name) / "compiled")
        config.add_cleanup(folder.cleanup)


@pytest.fixture(scope="session")
def detector():
    """A `Detector` with random weights, compiled once for all tests of a process."""
    from ssd_jax import Detector
    from tests.helpers.random_detector import random_trained

    return Detector(random_trained())
