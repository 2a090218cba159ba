"""Programs in several processes that work together."""

import subprocess
import sys
from collections.abc import Sequence

from tests.helpers.commands import ROOT, free_port, with_devices

START = """
import json, os, signal, sys, time
import jax
import numpy as np
from ssd_jax.cli import console
from ssd_jax.distributed import devices, exchange, watch

with console.session():
    place = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    devices.initialize(*place, heartbeat_timeout={heartbeat}, join_timeout=60, wait_timeout={wait})
    index = place[2]
"""


def run_together(
    program: str, count: int = 2, *, heartbeat: int = 20, wait: int = 5
) -> list[subprocess.CompletedProcess[str]]:
    """The same program in so many processes, which have joined; each to its end.

    Args:
      program: indented by four; `index` is the number of the process.
      count: of processes.
      heartbeat: see `devices.initialize`, as `wait`.
      wait: seconds.
    """
    beginning = START.format(heartbeat=heartbeat, wait=wait)
    return run_commands([[sys.executable, "-c", beginning + program]] * count)


def run_commands(commands: Sequence[Sequence[str]]) -> list[subprocess.CompletedProcess[str]]:
    """Commands side by side; each gets the address, how many there are, and its number."""
    address, count = f"127.0.0.1:{free_port()}", len(commands)
    processes = [
        subprocess.Popen(
            [*command, address, str(count), str(index)],
            cwd=ROOT,
            env=with_devices(1),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for index, command in enumerate(commands)
    ]
    outputs = [process.communicate(timeout=100) for process in processes]
    return [
        subprocess.CompletedProcess(process.args, process.returncode, *output)
        for process, output in zip(processes, outputs, strict=True)
    ]
