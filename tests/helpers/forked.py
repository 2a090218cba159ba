"""Starts Python programs without the seconds that other packages take to import.

A program is forked from one process, `helpers/fork_server.py`. Otherwise it runs like a started
program: with its own standard output and errors, environment, exit status and process id.
"""

import atexit
import functools
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path

ROOT = Path(__file__).parents[2]
SESSION = dict(os.environ)  # of the tests
# Variables that are read before the server has imported its packages. Two of JAX's are read later:
# the server sets the platforms again in each program, and the port is read when processes join.
READ_EARLY = ("PYTHON", "LC_", "LANG", "GLIBC", "JAX_")
READ_LATER = {"JAX_PLATFORMS", "JAX_COORDINATOR_PORT"}
_starting = threading.Lock()  # so that programs from two threads start one server


class Forked:
    """A program that runs. Like a `subprocess.Popen` with pipes for text."""

    def __init__(self, arguments: Sequence[object], environment: Mapping[str, str]) -> None:
        self.args = [sys.executable, *map(str, arguments)]
        self.returncode: int | None = None
        self._outputs = [tempfile.TemporaryFile() for _ in range(2)]  # noqa: SIM115
        self._connection = socket.socket(socket.AF_UNIX)
        with _starting:
            server = _server()
        self._connection.connect(server)
        request = json.dumps([self.args[1:], dict(environment)]).encode()
        files = [file.fileno() for file in self._outputs]
        socket.send_fds(self._connection, [len(request).to_bytes(8, "big")], files)
        self._connection.sendall(request)
        self.pid = self._received()

    def _received(self) -> int:
        return int.from_bytes(self._connection.recv(8, socket.MSG_WAITALL), "big")

    def communicate(self, timeout: float | None = None) -> tuple[str, str]:
        """Waits for the end; what was printed, and the errors."""
        self._connection.settimeout(timeout)
        self.returncode = os.waitstatus_to_exitcode(self._received())
        self._connection.close()
        texts = []
        for file in self._outputs:
            with file:
                file.seek(0)
                texts.append(file.read().decode())
        return texts[0], texts[1]

    def kill(self) -> None:
        os.kill(self.pid, signal.SIGKILL)


def start(
    arguments: Sequence[object], environment: Mapping[str, str] | None = None
) -> Forked | subprocess.Popen[str]:
    """Starts `python ARGUMENTS` in the root of the project, forked where that is the same.

    Args:
      arguments: `-c PROGRAM`, `-m MODULE` or a file, and those of the program.
      environment: of the program; that of the tests where None.
    """
    environment = dict(os.environ) if environment is None else environment
    if not _reads_others(environment):
        return Forked(arguments, environment)
    return subprocess.Popen(
        [sys.executable, *map(str, arguments)],
        cwd=ROOT,
        env=dict(environment),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def run(
    arguments: Sequence[object], environment: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """A program as by `start`, to its end."""
    process = start(arguments, environment)
    output, errors = process.communicate()
    return subprocess.CompletedProcess(process.args, process.returncode or 0, output, errors)


def _reads_others(environment: Mapping[str, str]) -> bool:
    """Whether variables differ that are read before the program begins."""
    names = {*environment, *SESSION} - READ_LATER
    return any(
        environment.get(name) != SESSION.get(name) for name in names if name.startswith(READ_EARLY)
    )


@functools.cache
def _server() -> str:
    """The socket of the server, which ends with this process."""
    folder = tempfile.TemporaryDirectory(ignore_cleanup_errors=True)
    atexit.register(folder.cleanup)
    place = f"{folder.name}/socket"
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.helpers.fork_server", place],
        cwd=ROOT,
        env=SESSION,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None and process.stdout.readline() == "ready\n"
    atexit.register(process.communicate)  # closes its standard input
    return place
