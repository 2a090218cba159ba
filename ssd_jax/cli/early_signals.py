"""Signals that come before a command has begun. Importing this receives them.

To be imported before everything that takes long: a program that is asked to end while it imports
JAX and TensorFlow ends as one does later. It imports nothing but modules of Python that are loaded
already.
"""

import os
import signal
import sys
import threading
from types import FrameType

# Commands that go on where they stopped, as the exit status 75 says.
CONTINUED = ("train", "sweep")
TRY_AGAIN = 75  # as in `errors.py`, which is not imported yet
CONTROL_C = 130  # what shells report of a program that Ctrl-C ended
SIGNALS = (signal.SIGTERM, signal.SIGINT)


def receive() -> None:
    """Has signals end this program with its own status, if it is `ssd-jax` or one of its scripts.

    `train` and `sweep` leave with 75, until the training itself receives signals; of the others
    Ctrl-C ends with one line.
    """
    command = command_of(sys.argv)
    if not command or threading.current_thread() is not threading.main_thread():
        return
    if command in CONTINUED:
        for number in SIGNALS:
            signal.signal(number, _leave)
    elif signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, _stop)


def release() -> None:
    """Has signals raise a `KeyboardInterrupt`, so that nothing unfinished is left behind.

    Where they leave with 75 they still do.
    """
    if signal.getsignal(signal.SIGINT) is _stop:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    is_main = threading.current_thread() is threading.main_thread()
    if is_main and signal.getsignal(signal.SIGTERM) is signal.SIG_DFL:
        signal.signal(signal.SIGTERM, _terminate)


def command_of(argv: list[str]) -> str:
    """The command that a command line names; "" where the program is not ours."""
    program = os.path.basename(argv[0])
    if program in ("train.py", "evaluate.py"):
        return program.removesuffix(".py")
    # "-m" stands there while the package is imported.
    return argv[1] if program in ("ssd-jax", "__main__.py", "-m") and len(argv) > 1 else ""


def _leave(number: int, frame: FrameType | None) -> None:
    del frame
    reason = f"{signal.Signals(number).name}: stopped before the first step"
    watch = sys.modules.get("ssd_jax.distributed.watch")
    if watch is not None and watch.is_watching():
        # The other processes of the run hear of it.
        from ssd_jax.errors import Interrupted

        raise Interrupted(reason)
    _end(f"{reason}; the same command goes on from the last checkpoint, if any", TRY_AGAIN)


def _stop(number: int, frame: FrameType | None) -> None:
    del number, frame
    _end("stopped by Ctrl-C", CONTROL_C)


def _terminate(number: int, frame: FrameType | None) -> None:
    del number, frame
    from ssd_jax.errors import Terminated

    raise Terminated


def _end(message: str, status: int) -> None:
    """Ends the program; nothing that is being imported can catch it."""
    os.write(2, f"{message}\n".encode())
    os._exit(status)


receive()
