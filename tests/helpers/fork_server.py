"""Forks Python programs from a process that has imported other packages: see `helpers/forked.py`.

    python -m tests.helpers.fork_server SOCKET

Each connection sends a line with the length of a request, two file descriptors for the output, and
the request. The server answers with the id of the process and, when it has ended, with its status.
"""

import atexit
import contextlib
import gc
import importlib
import io
import json
import os
import runpy
import select
import socket
import sys
import threading
import traceback
import types
import warnings
from typing import Any, NoReturn

# TensorFlow takes four seconds of CPU time, the others together one to two. Modules of this project
# are not imported here: each program imports them, as a started program does.
IMPORTED = ("jax", "flax.nnx", "optax", "orbax.checkpoint", "tensorflow")
# As `ssd_jax.data.tensorflow_setup` has them while TensorFlow is imported.
OF_TENSORFLOW = {
    "TF_CPP_MIN_LOG_LEVEL": "3",
    "TF_ENABLE_ONEDNN_OPTS": "0",
    "TF_USE_LEGACY_KERAS": "1",
}


def fork() -> int:
    with warnings.catch_warnings():  # JAX warns of it, but there are no threads yet
        warnings.simplefilter("ignore")
        return os.fork()


def serve(listener: socket.socket) -> None:
    """Answers until standard input ends, as it does with the process that started this one."""
    while True:
        ready, _, _ = select.select([listener, sys.stdin], [], [])
        if sys.stdin in ready:
            return
        connection, _ = listener.accept()
        if fork() == 0:
            listener.close()
            attend(connection)
        connection.close()
        with contextlib.suppress(ChildProcessError):  # there is none at the moment
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass


def attend(connection: socket.socket) -> NoReturn:
    """Starts the program of a request, and sends its exit status."""
    size, files, _, _ = socket.recv_fds(connection, 8, 2)
    content = connection.makefile("rb").read(int.from_bytes(size, "big"))
    arguments, environment = json.loads(content)
    pid = fork()
    if pid == 0:
        connection.close()
        become(arguments, environment, files)
    connection.sendall(pid.to_bytes(8, "big"))
    _, status = os.waitpid(pid, 0)
    connection.sendall(status.to_bytes(8, "big"))
    os._exit(0)


def become(arguments: list[str], environment: dict[str, str], files: list[int]) -> NoReturn:
    """Runs a program in this process as `python ARGUMENTS` does, to the end of the process."""
    os.environ.clear()
    os.environ.update(environment)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    for file, descriptor, name in zip(files, (1, 2), ("stdout", "stderr"), strict=True):
        os.dup2(file, descriptor)
        os.close(file)
        buffer = io.BufferedWriter(io.FileIO(descriptor, "w", closefd=False))
        stream = io.TextIOWrapper(
            buffer,
            encoding="utf-8",
            errors="backslashreplace" if name == "stderr" else "strict",
            line_buffering=name == "stderr",
        )
        setattr(sys, name, stream)
        setattr(sys, f"__{name}__", stream)
    if "JAX_PLATFORMS" in environment:  # which JAX has read
        sys.modules["jax"].config.update("jax_platforms", environment["JAX_PLATFORMS"])
    sys.orig_argv = [sys.executable, *arguments]
    status = status_of(arguments)
    for finish in (threading._shutdown, atexit._run_exitfuncs):
        finish()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


def status_of(arguments: list[str]) -> int:
    """Runs `-c PROGRAM`, `-m MODULE` or a file; its exit status."""
    sys.modules["__main__"] = main = types.ModuleType("__main__")
    try:
        if arguments[0] == "-c":
            sys.argv, sys.path[0] = ["-c", *arguments[2:]], ""
            exec(compile(arguments[1], "<string>", "exec"), vars(main))
        elif arguments[0] == "-m":
            sys.argv = arguments[1:]
            runpy.run_module(arguments[1], run_name="__main__", alter_sys=True)
        else:
            sys.argv = arguments
            runpy.run_path(arguments[0], run_name="__main__")
    except SystemExit as end:
        return code_of(end.code)
    except BaseException:
        traceback.print_exc()
        return 1
    return 0


def code_of(code: Any) -> int:
    """The status that the interpreter gives `sys.exit(code)`."""
    if isinstance(code, int):
        return code & 0xFF
    if code is not None:
        print(code, file=sys.stderr)
    return int(code is not None)


def main() -> None:
    os.environ.update(OF_TENSORFLOW)
    for name in IMPORTED:
        importlib.import_module(name)
    gc.collect()
    gc.freeze()  # so that the pages of what is imported stay shared
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(sys.argv[1])
        listener.listen(64)
        print("ready", flush=True)
        serve(listener)


if __name__ == "__main__":
    main()
