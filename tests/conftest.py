"""Order of the tests, a compilation cache for all of them, and fixtures of several files."""

import gc
import os
import tempfile
from pathlib import Path

import jaxtyping
import pytest

from ssd_jax.threads import num_cores
from tests.helpers import type_checks

# In tests alone, array shapes and types are checked where they are annotated. The hook is installed
# before these packages are imported.
jaxtyping.install_import_hook(
    ["ssd_jax.detection", "ssd_jax.models"], f"{type_checks.__name__}.check_types"
)

# XLA's flags under which it compiles fastest.
QUICK_TO_COMPILE = (
    "--xla_backend_optimization_level=0 "
    "--xla_backend_extra_options=xla_cpu_disable_new_fusion_emitters"
)

GARBAGE_THRESHOLD = 50_000
MEMORY_OF_WORKER = 6 * 2**30  # bytes, at the end of the suite


@pytest.hookimpl(tryfirst=True)  # before `-m` chooses
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Starts the longest files first, so that no xdist worker runs one alone at the end.

    Files with `slow` tests come first, and among them those that also start several processes.
    Tests that start several processes are slow.
    """
    for item in items:
        if item.get_closest_marker("multiprocess"):
            item.add_marker("slow")
    marks: dict[Path, set[str]] = {}
    for item in items:
        marks.setdefault(item.path, set()).update(mark.name for mark in item.iter_markers())

    def rank(item: pytest.Item) -> int:
        of_file = marks[item.path]
        return 2 if "slow" not in of_file else 0 if "multiprocess" in of_file else 1

    items.sort(key=rank)


def pytest_xdist_auto_num_workers() -> int:
    """One worker more than cores, because tests of processes and stores often wait."""
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return max(1, min(num_cores() + 1, memory // MEMORY_OF_WORKER))


def pytest_collection_finish() -> None:
    """Excludes the modules that are imported now from later garbage collections."""
    gc.collect()
    gc.freeze()


def pytest_configure(config: pytest.Config) -> None:
    """Shares compiled programs between all tests of a session, in a folder that is removed.

    Garbage is collected less often than in programs. On a CPU compilation takes longer than
    execution, so XLA optimises as little as possible. Workers of xdist and the processes that tests
    start inherit the variables.
    """
    gc.set_threshold(GARBAGE_THRESHOLD)
    os.environ.setdefault("XLA_FLAGS", QUICK_TO_COMPILE)
    os.environ.setdefault("GLIBC_TUNABLES", "glibc.malloc.hugetlb=1")  # as the commands have it
    if "JAX_COMPILATION_CACHE_DIR" not in os.environ:
        folder = tempfile.TemporaryDirectory(ignore_cleanup_errors=True)
        os.environ["JAX_COMPILATION_CACHE_DIR"] = str(Path(folder.name) / "compiled")
        config.add_cleanup(folder.cleanup)
    # By default JAX keeps what took a second, which few of these programs do.
    os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")


@pytest.fixture(scope="session")
def detector():
    """A `Detector` with random weights, compiled once for all tests of a process."""
    from ssd_jax import Detector
    from ssd_jax.inference.jax_engine import JaxEngine
    from tests.helpers.random_detector import random_trained

    return Detector(JaxEngine(random_trained()))
