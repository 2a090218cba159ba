"""Programs in several processes that work together."""

import subprocess

from tests.helpers import forked
from tests.helpers.commands import free_port, with_devices

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
    """Runs a program in several joined processes, each to its end.

    Args:
      program: the code, indented by four; `index` is the index of the process.
      count: the number of processes.
      heartbeat: in seconds; see `devices.initialize`.
      wait: in seconds; see `devices.initialize`.
    """
    beginning = START.format(heartbeat=heartbeat, wait=wait)
    address = f"127.0.0.1:{free_port()}"
    processes = [
        forked.start(["-c", beginning + program, address, count, index], with_devices(1))
        for index in range(count)
    ]
    outputs = [process.communicate(timeout=100) for process in processes]
    return [
        subprocess.CompletedProcess(process.args, process.returncode or 0, *output)
        for process, output in zip(processes, outputs, strict=True)
    ]
