"""Signals at the start of commands, during imports."""

import functools
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from tools.attacks.attack import ROOT, Attack

KIND = "signals"

# The modules during whose import the signal arrives.
MODULES = (
    "ssd_jax.errors",
    "ssd_jax.cli.console",
    "absl.flags",
    "ml_collections",
    "pydantic",
    "numpy",
    "jax",
    "jaxlib",
    "flax",
    "optax",
    "orbax",
    "tensorflow",
    "tensorflow_datasets",
    "ssd_jax.runs.train",
    "ssd_jax.training.loop",
)

# Reports the start of the import of a module on standard output, and continues slowly.
TELL = """
import sys, time

class Reported:
    def find_spec(self, name, path=None, target=None):
        if name == {name!r}:
            print("now", flush=True)
            time.sleep(0.5)

sys.modules.pop({name!r}, None)
sys.meta_path.insert(0, Reported())
"""


def signal_at(
    module: str, number: signal.Signals, command: Sequence[str], folder: Path
) -> subprocess.Popen[str]:
    """Runs a program, and sends a signal when it begins to import a module.

    Args:
      module: the module.
      number: the signal.
      command: the arguments of Python.
      folder: for a file that Python reads at its start.
    """
    (folder / "sitecustomize.py").write_text(TELL.format(name=module))
    process = subprocess.Popen(
        [sys.executable, *command],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(folder), "JAX_PLATFORMS": "cpu"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    if process.stdout.readline() != "now\n":
        process.kill()
        raise AssertionError(f"{module} is not imported")
    time.sleep(0.05)
    process.send_signal(number)
    return process


def end_at(module: str, number: signal.Signals, command: list[str], status: int, folder: Path):
    """Sends a signal when a module begins to be imported."""
    process = signal_at(module, number, [*command, f"--workdir={folder / 'run'}"], folder)
    try:
        _, errors = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == status, f"status {process.returncode}: {errors[-500:]}"
    assert len(errors.splitlines()) == 1, errors[-500:]
    assert not (folder / "run").exists()


TRAIN = ["train.py", "--config=tests/tiny.py"]
SWEEP = ["-m", "ssd_jax", "sweep", "--configs=tests/tiny.py"]
PREDICT = ["-m", "ssd_jax", "predict", "--output=nowhere", "x.jpg"]

ATTACKS = [
    *(
        Attack(
            KIND,
            f"{number.name} to train, which imports {module}",
            functools.partial(end_at, module, number, TRAIN, 75),
        )
        for number in (signal.SIGTERM, signal.SIGINT)
        for module in MODULES
    ),
    *(
        Attack(
            KIND,
            f"SIGTERM to sweep, which imports {module}",
            functools.partial(end_at, module, signal.SIGTERM, SWEEP, 75),
        )
        for module in ("ssd_jax.cli.console", "jax", "ssd_jax.runs.train")
    ),
    *(
        Attack(
            KIND,
            f"Ctrl-C to predict, which imports {module}",
            functools.partial(end_at, module, signal.SIGINT, PREDICT, 130),
        )
        for module in ("ssd_jax.cli.console", "absl.flags", "jax")
    ),
]
