"""Starts trainings and evaluations in several processes, for attacks on these."""

import dataclasses
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from tools.attacks.attack import ROOT

TINY = ROOT / "tests" / "tiny.py"
PATIENCE = 600  # seconds after which a process is considered hanging

_COMPILED = tempfile.TemporaryDirectory(prefix="compiled_", ignore_cleanup_errors=True)

# Compiles fastest, and once for all attacks of a session.
ENVIRONMENT = {
    "JAX_PLATFORMS": "cpu",
    "XLA_FLAGS": "--xla_backend_optimization_level=0",
    "JAX_COMPILATION_CACHE_DIR": _COMPILED.name,
    "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
    "TF_CPP_MIN_LOG_LEVEL": "3",
}


@dataclasses.dataclass(frozen=True)
class Process:
    """The differences of one of several processes.

    Attributes:
      arguments: additional arguments.
      environment: additional variables.
      folder: its folder; the root of the project if None.
      program: code that runs before the command; may be "".
    """

    arguments: Sequence[str] = ()
    environment: Mapping[str, str] = dataclasses.field(default_factory=dict)
    folder: Path | None = None
    program: str = ""


def start(
    command: str, processes: Sequence[Process], *arguments: str
) -> list[subprocess.Popen[str]]:
    """Starts a command in several processes that join."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    started = []
    for number, own in enumerate(processes):
        program = f"{own.program}\nfrom ssd_jax.cli.main import run\nrun({command!r})"
        environment = os.environ | ENVIRONMENT | own.environment
        paths = [own.environment.get("PYTHONPATH", ""), str(ROOT)]
        environment["PYTHONPATH"] = os.pathsep.join(filter(None, paths))
        place = [f"--coordinator=127.0.0.1:{port}", f"--num_processes={len(processes)}"]
        everything = [*arguments, *own.arguments, *place, f"--process_id={number}"]
        started.append(
            subprocess.Popen(
                [sys.executable, "-c", program, *everything],
                cwd=own.folder or ROOT,
                env=environment,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                text=True,
                errors="replace",
            )
        )
    return started


def finish(
    started: Sequence[subprocess.Popen[str]], seconds: float = PATIENCE
) -> list[tuple[int, str]]:
    """The status and errors of each process; `AssertionError` if one hangs; ends all of them."""
    deadline = time.monotonic() + seconds
    ended = []
    try:
        for number, process in enumerate(started):
            try:
                _, errors = process.communicate(timeout=max(1, deadline - time.monotonic()))
            except subprocess.TimeoutExpired as error:
                raise AssertionError(f"process {number} hangs after {seconds:g} s") from error
            ended.append((process.returncode, errors))
    finally:
        for process in started:
            if process.poll() is None:
                process.send_signal(signal.SIGKILL)
                process.wait()
    return ended


def run(command: str, processes: Sequence[Process], *arguments: str) -> list[tuple[int, str]]:
    """Runs a command in several processes; see `finish`."""
    return finish(start(command, processes, *arguments))
