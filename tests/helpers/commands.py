"""Runs the command `ssd-jax` as a user does."""

import os
import socket
import subprocess
from pathlib import Path
from types import ModuleType

from tests.helpers import forked

ROOT = Path(__file__).parents[2]


def run_command(
    command: str, *arguments: object, expect: int = 0, env: dict[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Runs a command to its end; it must exit with this status, and without a traceback."""
    done = forked.run(["-m", "ssd_jax", command, *arguments], env)
    assert done.returncode == expect, done.stderr
    assert "Traceback" not in done.stderr
    return done


def run_in_process(command: ModuleType, *arguments: str) -> None:
    """Runs a command of `ssd_jax.cli` with fresh flags, in this process."""
    flags = command.COMMAND.flags
    try:
        command.COMMAND.main(command.COMMAND.parse([command.__name__, *arguments]))
    finally:
        for name in flags:
            flags[name].unparse()
        flags.unparse_flags()


def with_devices(count: int) -> dict[str, str]:
    """The environment of a process with this number of simulated devices."""
    flags = f"{os.environ['XLA_FLAGS']} --xla_force_host_platform_device_count={count}"
    return os.environ | {"XLA_FLAGS": flags, "JAX_PLATFORMS": "cpu"}


def free_port() -> int:
    """A free port of this machine."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
