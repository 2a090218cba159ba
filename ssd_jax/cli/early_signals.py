"""Signals that come before a command has begun. Importing this receives them.

To be imported before everything that takes long: a program that is asked to end while it imports
JAX and TensorFlow ends as one does later. It imports nothing but modules of Python that are loaded
already.
"""

import os
import signal
import sys
import threading
import time
from types import FrameType

# Commands that go on where they stopped, as the exit status 75 says.
CONTINUED = ("train", "sweep")
TRY_AGAIN = 75  # this and the next as in `errors.py`, which is not imported yet
GOES_ON = "the same command goes on from there"
CONTROL_C = 130  # what shells report of a program that Ctrl-C ended
SIGNALS = (signal.SIGTERM, signal.SIGINT)
ONE_SIGNAL = 1.0  # seconds; `timeout` and launchers signal a process and its group at once

_first = 0.0  # when the first signal came, by `time.monotonic`


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
        told, teller = os.pipe()
        os.set_blocking(teller, False)
        signal.set_wakeup_fd(teller)
        threading.Thread(target=_leave_from_thread, args=(told,), daemon=True).start()
    elif signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, _stop)


def release() -> None:
    """Has signals raise a `KeyboardInterrupt`, so that nothing unfinished is left behind.

    Those that come within a second of the first raise none: they would break off what removes it.
    Where signals leave with 75 they still do.
    """
    if signal.getsignal(signal.SIGINT) is _stop:
        signal.signal(signal.SIGINT, _raise)
    is_main = threading.current_thread() is threading.main_thread()
    if is_main and signal.getsignal(signal.SIGTERM) is signal.SIG_DFL:
        signal.signal(signal.SIGTERM, _raise)


def finish(status: int) -> None:
    """The program is about to end with a status: a signal, a second from now or later, ends it."""
    if threading.current_thread() is not threading.main_thread():
        return
    began = time.monotonic()

    def end(number: int, frame: FrameType | None) -> None:
        del number, frame
        if time.monotonic() - began >= ONE_SIGNAL:
            os._exit(status)

    for number in SIGNALS:
        signal.signal(number, end)


def command_of(argv: list[str]) -> str:
    """The command that a command line names; "" where the program is not ours."""
    program = os.path.basename(argv[0])
    if program in ("train.py", "evaluate.py"):
        return program.removesuffix(".py")
    # "-m" stands there while the package is imported.
    return argv[1] if program in ("ssd-jax", "__main__.py", "-m") and len(argv) > 1 else ""


def _is_repeated() -> bool:
    """Whether a signal counts as one with the first."""
    global _first
    now = time.monotonic()
    if _first and now - _first < ONE_SIGNAL:
        return True
    _first = now
    return False


def _leave(number: int, frame: FrameType | None) -> None:
    del frame
    if _is_repeated():
        return
    reason = _reason(number)
    watch = sys.modules.get("ssd_jax.distributed.watch")
    if watch is not None and watch.is_watching():
        # The other processes of the run hear of it.
        from ssd_jax.errors import Interrupted

        raise Interrupted(reason)
    _end(f"{reason}; {GOES_ON}", TRY_AGAIN)


def _leave_from_thread(told: int) -> None:
    """Leaves where the main thread does not come to it, as while it waits for other processes.

    Args:
      told: where the numbers of signals are read from, until the training receives them itself.
    """
    number = 0
    while number not in SIGNALS:
        number = os.read(told, 1)[0]
    time.sleep(ONE_SIGNAL)
    if not _first:  # `_leave` was not called
        _end(f"{_reason(number)}; {GOES_ON}", TRY_AGAIN)


def _reason(number: int) -> str:
    return f"{signal.Signals(number).name}: stopped before the first step"


def _stop(number: int, frame: FrameType | None) -> None:
    del number, frame
    _end("stopped by Ctrl-C", CONTROL_C)


def _raise(number: int, frame: FrameType | None) -> None:
    del frame
    if _is_repeated():
        return
    if number == signal.SIGINT:
        raise KeyboardInterrupt
    from ssd_jax.errors import Terminated

    raise Terminated


def _end(message: str, status: int) -> None:
    """Ends the program; nothing that is being imported can catch it."""
    os.write(2, f"{message}\n".encode())
    os._exit(status)


receive()
