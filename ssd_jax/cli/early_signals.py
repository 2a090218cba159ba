"""Handlers for signals that arrive before a command has started. Importing this installs them.

Import this module first: a signal during the long imports of JAX and TensorFlow then ends the
program as a later signal does. It imports only standard modules that are already loaded.
"""

import os
import signal
import sys
import threading
import time
from types import FrameType

# Commands that continue when they are started again, as the exit status 75 says.
CONTINUED = ("train", "sweep")
TRY_AGAIN = 75  # this and the next equal those of `errors.py`, which is not imported yet
GOES_ON = "the same command continues"
CONTROL_C = 130  # the status that shells report after Ctrl-C
SIGNALS = (signal.SIGTERM, signal.SIGINT)
ONE_SIGNAL = 1.0  # seconds; `timeout` and launchers signal a process and its group at once

_first = 0.0  # the time of the first signal, by `time.monotonic`


def receive() -> None:
    """Installs signal handlers, if this program is `ssd-jax` or one of its scripts.

    `train` and `sweep` exit with status 75 after a signal, until the training installs its own
    handlers. Other commands exit with one line after Ctrl-C.
    """
    command = command_of(sys.argv)
    if not command or threading.current_thread() is not threading.main_thread():
        return
    if command in CONTINUED:
        for number in SIGNALS:
            signal.signal(number, _leave)
        reader, writer = os.pipe()
        os.set_blocking(writer, False)
        signal.set_wakeup_fd(writer)
        threading.Thread(target=_leave_from_thread, args=(reader,), daemon=True).start()
    elif signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, _stop)


def release() -> None:
    """Makes signals raise a `KeyboardInterrupt`, so that unfinished files are removed.

    Further signals within a second of the first raise nothing: they would interrupt the removal.
    Commands that exit with status 75 still do.
    """
    if signal.getsignal(signal.SIGINT) is _stop:
        signal.signal(signal.SIGINT, _raise)
    is_main = threading.current_thread() is threading.main_thread()
    if is_main and signal.getsignal(signal.SIGTERM) is signal.SIG_DFL:
        signal.signal(signal.SIGTERM, _raise)


def finish(status: int) -> None:
    """Prepares the end of the program: a signal after one second or later ends it at once."""
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
    """The command of a command line; "" if the program is not ours."""
    program = os.path.basename(argv[0])
    if program in ("train.py", "evaluate.py"):
        return program.removesuffix(".py")
    # "-m" stands there while the package is imported.
    return argv[1] if program in ("ssd-jax", "__main__.py", "-m") and len(argv) > 1 else ""


def _is_repeated() -> bool:
    """Whether a signal came so soon after the first that both count as one."""
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
        # `Interrupted` is passed on to the other processes of the run.
        from ssd_jax.errors import Interrupted

        raise Interrupted(reason)
    _end(f"{reason}; {GOES_ON}", TRY_AGAIN)


def _leave_from_thread(reader: int) -> None:
    """Ends the program when the main thread cannot, for example while it waits for other processes.

    Args:
      reader: the pipe with the numbers of signals, until the training handles signals itself.
    """
    number = 0
    while number not in SIGNALS:
        number = os.read(reader, 1)[0]
    time.sleep(ONE_SIGNAL)
    if not _first:  # `_leave` was not called
        _end(f"{_reason(number)}; {GOES_ON}", TRY_AGAIN)


def _reason(number: int) -> str:
    name = "Ctrl-C" if number == signal.SIGINT else signal.Signals(number).name
    return f"{name}: stopped before the first step"


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
    """Ends the program at once, without an exception that an import could catch."""
    os.write(2, f"{message}\n".encode())
    os._exit(status)


receive()
