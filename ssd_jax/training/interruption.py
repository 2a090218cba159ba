"""Graceful shutdown on SIGTERM and SIGINT."""

import os
import signal
import socket
import sys
import threading
import time
from types import FrameType

from ssd_jax.distributed import devices, watch
from ssd_jax.errors import GOES_ON, TRY_AGAIN, Interrupted

SIGNALS = (signal.SIGTERM, signal.SIGINT)
ONE_SIGNAL = 1.0  # seconds; `timeout` and launchers signal a process and its group at once


def name_of(number: int) -> str:
    """The name of a signal in messages."""
    return "Ctrl-C" if number == signal.SIGINT else signal.Signals(number).name


def _say(line: str) -> None:
    """Writes a line at once, from any thread, below a progress bar."""
    if devices.is_main_process():
        os.write(2, f"\n{line}\n".encode())


class Interruption:
    """Handles signals: the first requests a stop of the training loop, the second exits at once.

    Signals less than a second after the first count as the first.

    A context manager: inside the block signals are received (if it runs in the main thread, as
    Python requires). Before `defer` is called, there is nothing to save, so the first signal ends
    the block at once. If the main thread cannot do this within a second, for example while it
    compiles, the process exits with status 75. In a notebook, where Python itself handles Ctrl-C,
    Ctrl-C waits for the main thread.

    Attributes:
      requested: whether this process or another one must stop, as of the last `exchange`.
    """

    def __init__(self):
        self.requested = False
        self._received = ""  # the name of the signal
        self._deferred = False
        self._agreement = devices.Agreement()
        self._handlers_before = {}

    def __enter__(self) -> "Interruption":
        if threading.current_thread() is threading.main_thread():
            # Python calls handlers between two bytecode instructions: not while the main thread
            # waits for a device or a compiler. A thread that is notified at once can then end the
            # program.
            self._receiver, self._sender = socket.socketpair()
            self._sender.setblocking(False)
            self._wakeup_before = signal.set_wakeup_fd(self._sender.fileno())
            threading.Thread(target=self._listen, daemon=True).start()
            self._hook_before, sys.unraisablehook = sys.unraisablehook, self._report
            self._handlers_before = {
                number: signal.signal(number, self._handle) for number in SIGNALS
            }
        return self

    def __exit__(self, kind: type | None, *_) -> None:
        if kind is Interrupted and self._deferred:
            devices.leave_together()
        if self._handlers_before:
            for number, handler in self._handlers_before.items():
                signal.signal(number, handler)
            signal.set_wakeup_fd(self._wakeup_before)
            sys.unraisablehook = self._hook_before
            self._sender.close()  # ends the thread

    def defer(self) -> None:
        """After this call a signal only requests a stop, because there is something to save."""
        self._deferred = True

    def exchange(self) -> None:
        """Reports a received signal to all processes, and updates `requested` in all of them.

        All processes must call it equally often.
        """
        self.requested = self._agreement.any_process(bool(self._received))

    def check(self) -> None:
        """Does an `exchange`, and raises `Interrupted` if a stop is requested."""
        self.exchange()
        if self.requested:
            raise Interrupted(f"{self.reason()}: stopped")

    def reason(self) -> str:
        """The name of the received signal."""
        return self._received or "a signal to another process"

    def _handle(self, number: int, frame: FrameType | None) -> None:
        del frame
        if self._received:
            return
        self._received = name_of(number)
        if not self._deferred:
            raise Interrupted(f"{self._received}: stopped before the first step")

    def _report(self, report: "sys.UnraisableHookArgs") -> None:
        # Python ignores exceptions during garbage collection. Then the thread or the loop ends the
        # run.
        if not issubclass(report.exc_type, Interrupted):
            self._hook_before(report)

    def _listen(self) -> None:
        """Ends the process if the main thread does not react to a signal; a thread of the block."""
        first = 0.0
        name = ""
        with self._receiver:
            while True:
                try:
                    received = self._receiver.recv(1)
                except TimeoutError:
                    if not self._deferred:
                        reason = f"{name}: stopped before the first step"
                        watch.end_process(TRY_AGAIN, f"{reason}; {GOES_ON}")
                    self._receiver.settimeout(None)
                    continue
                if not received:
                    return
                number = received[0]
                if number not in SIGNALS:
                    continue
                if not name:
                    first, name = time.monotonic(), name_of(number)
                    if self._deferred:
                        _say(f"{name}: saving after the steps in flight; again: end without saving")
                    if self._handlers_before.get(number) is not signal.default_int_handler:
                        self._receiver.settimeout(ONE_SIGNAL)
                elif time.monotonic() - first >= ONE_SIGNAL:
                    if self._deferred:
                        _say(f"{name_of(number)} again: ended without saving")
                    os._exit(128 + number)  # the status that shells report
