"""Heartbeats between the processes of a run, so that none waits forever for another.

Every process sends a heartbeat each second through JAX's coordinator in process 0, and reads those
of the others. If one ends with an error, the others end with its message. If one sends no
heartbeat, or a wait for the others lasts too long, this process ends.
"""

import contextlib
import ctypes
import faulthandler
import json
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Iterator
from typing import NoReturn

from jax._src import distributed  # the coordinator has no public API

from ssd_jax.errors import START_AGAIN, TRY_AGAIN

PERIOD = 1.0  # seconds between two heartbeats
ANNOUNCEMENT = 6.0  # seconds in which the others receive the message of an ending process
KEY = "ssd_jax/alive/"
ENDED = "ssd_jax/ended"  # the key for the message of the first process that ends with an error
LISTEN = 500  # milliseconds of one listening call; an end of this process waits for it
LONGEST_WAIT = 1800.0  # seconds, by default
LEFT = "left"  # the heartbeat of a process that has finished
SILENCE = 1.5 * PERIOD  # without an answer, after which a connection to process 0 is tried

_ending = threading.Lock()  # the thread that ends the process never releases it


class Watch:
    """The heartbeats of all processes, sent and checked in separate threads.

    Attributes:
      longest_wait: maximum seconds of a wait for the other processes.
    """

    def __init__(self, timeout: float, longest_wait: float):
        """Starts the heartbeats; all processes have joined.

        Args:
          timeout: seconds without a heartbeat after which a process counts as dead.
          longest_wait: maximum seconds of a wait for the other processes.
        """
        self.longest_wait = longest_wait
        state = distributed.global_state
        assert state.client is not None
        self._client, self._index, self._count = state.client, state.process_id, state.num_processes
        self._timeout = timeout
        now = time.monotonic()
        self._answered = now
        # By process, its last heartbeat and the time of its arrival.
        self._heartbeats: dict[int, tuple[str, float]] = {i: ("", now) for i in range(self._count)}
        self._wait: tuple[str, float] | None = None  # its purpose and its deadline
        self._stopped = threading.Event()
        self._threads = [
            threading.Thread(target=work, daemon=True)
            for work in (self._send, self._check, self._listen)
        ]
        for thread in self._threads:
            thread.start()
        _delay_aborts()

    def stop(self) -> None:
        """Ends the heartbeats, and reports to the others that this process has finished."""
        self._stopped.set()
        for thread in self._threads:
            thread.join(self._timeout)
        with contextlib.suppress(RuntimeError):
            self._set(LEFT)

    @contextlib.contextmanager
    def waiting(self, for_what: str) -> Iterator[None]:
        """A block that waits for other processes; after `longest_wait` this process ends."""
        outer, self._wait = self._wait, (for_what, time.monotonic() + self.longest_wait)
        try:
            yield
        finally:
            self._wait = outer

    def announce_end(self, status: int, message: str) -> None:
        """Reports the end of this process to the others, and waits until they have received it.

        Process 0 ends last, because the others receive messages through it.
        """
        self._stopped.set()
        deadline = time.monotonic() + ANNOUNCEMENT
        with contextlib.suppress(RuntimeError):  # an earlier end of another process
            self._client.key_value_set(ENDED, json.dumps([self._index, status, message]))
        with contextlib.suppress(RuntimeError):
            self._set(LEFT)
            while time.monotonic() < deadline:
                if set(self._read_heartbeats().values()) == {LEFT}:
                    break
                time.sleep(PERIOD / 10)
            if self._index == 0:
                time.sleep(PERIOD)

    def _set(self, value: str) -> None:
        self._client.key_value_set(f"{KEY}{self._index}", value, allow_overwrite=True)

    def _read_heartbeats(self) -> dict[int, str]:
        """The last heartbeat of each process."""
        pairs = self._client.key_value_dir_get(KEY)
        return {int(key.rpartition("/")[2]): value for key, value in pairs}

    def _send(self) -> None:
        number = 0
        while not self._stopped.wait(PERIOD):
            number += 1
            try:
                self._set(str(number))
                heartbeats = self._read_heartbeats()
            except RuntimeError:
                continue  # `_check` reports a timeout
            now = time.monotonic()
            self._answered = now
            for process, value in heartbeats.items():
                if value != self._heartbeats[process][0]:
                    self._heartbeats[process] = (value, now)

    def _listen(self) -> None:
        """Ends this process as soon as another one fails, or process 0 cannot be reached."""
        while not self._stopped.is_set():
            try:
                value = self._client.blocking_key_value_get(ENDED, LISTEN)
            except RuntimeError as error:
                if "DEADLINE_EXCEEDED" in str(error):
                    continue
                if self._stopped.is_set():
                    return
                # No process is left that could receive a message.
                _lost("process 0 of the run is gone", announce=False)
            if not self._stopped.is_set():
                _end_like(value)

    def is_refused(self) -> bool:
        """Whether the port of process 0 refuses connections."""
        host, _, port = (distributed.global_state.coordinator_address or "").rpartition(":")
        try:
            socket.create_connection((host.strip("[]"), int(port)), timeout=PERIOD).close()
        except ConnectionRefusedError:
            return True
        except (OSError, ValueError):
            pass  # slow, or its host is gone: `_check` reports a timeout
        return False

    def _check(self) -> None:
        while not self._stopped.wait(PERIOD / 2):
            now, wait = time.monotonic(), self._wait
            if wait is not None and now > wait[1]:
                _lost(f"the wait for {wait[0]} has lasted longer than {self.longest_wait:g} s")
            if now - self._answered > SILENCE and self.is_refused():
                _lost("process 0 of the run is gone", announce=False)
            if now - self._answered > self._timeout:
                _lost(f"process 0 has not answered for {self._timeout:g} s")
            for process, (value, since) in self._heartbeats.items():
                if value != LEFT and process != self._index and now - since > self._timeout:
                    # Heartbeats arrive late if process 0 was slow.
                    silent = self._answered - since
                    if silent > self._timeout - 2 * PERIOD:
                        _lost(f"process {process} has sent no heartbeat for {silent:.0f} s")


def _delay_aborts() -> None:
    """Delays aborts of this program by 6 s.

    When process 0 is gone, JAX aborts at once, with a status that does not mean that the same
    command continues the run. During the delay, `_check` exits with the status that means it. The
    signal handler is the `sleep` of C: its argument is the number of the signal, 6, as seconds, and
    it needs no thread of Python.
    """
    if sys.platform == "win32":  # it has neither signal nor function of this form
        return
    libc = ctypes.CDLL(None)
    libc.signal.argtypes = (ctypes.c_int, ctypes.c_void_p)
    libc.signal.restype = ctypes.c_void_p
    writes_stacks = faulthandler.is_enabled()
    faulthandler.disable()
    libc.signal(signal.SIGABRT, ctypes.cast(libc.sleep, ctypes.c_void_p))
    if writes_stacks:  # prints the stacks, then calls the handler above
        faulthandler.enable()


_watch: Watch | None = None


def start(timeout: float, longest_wait: float) -> None:
    """Starts the heartbeats of the processes that have joined; see `Watch`."""
    global _watch
    _watch = Watch(timeout, longest_wait)


def stop() -> None:
    """Ends the heartbeats, if there are any."""
    global _watch
    if _watch:
        _watch.stop()
        _watch = None


def is_watching() -> bool:
    """Whether this process has joined others."""
    return _watch is not None


def longest_wait() -> float:
    """Maximum seconds of a wait for the other processes."""
    return (
        _watch.longest_wait if _watch else LONGEST_WAIT
    )  # JAX may have joined them without this file


def waiting(for_what: str) -> contextlib.AbstractContextManager[None]:
    """A block that waits for other processes; after `longest_wait` this process ends."""
    return _watch.waiting(for_what) if _watch else contextlib.nullcontext()


def end_process(status: int, message: str = "", announce: bool = True) -> NoReturn:
    """Ends this process with an exit status, after a message on standard error.

    Args:
      status: its exit status.
      message: "" for none.
      announce: whether the other processes of the run receive the message and end too.
    """
    _ending.acquire()  # never released: the first thread here ends the process
    if message:
        print(f"\n{message}" if sys.stderr.isatty() else message, file=sys.stderr)
    sys.stdout.flush()
    sys.stderr.flush()
    if _watch and announce:
        announcing = threading.Thread(
            target=_watch.announce_end, args=(status, message), daemon=True
        )
        announcing.start()
        deadline = time.monotonic() + ANNOUNCEMENT + 2 * PERIOD  # process 0 may not answer
        while announcing.is_alive() and time.monotonic() < deadline and not _watch.is_refused():
            announcing.join(PERIOD / 2)
    os._exit(status)


def _end_like(value: str) -> NoReturn:
    """Ends this process with the status and the message of another one."""
    try:
        process, status, message = json.loads(value)
        status = int(status) or 1
    except (ValueError, TypeError):
        process, status, message = "?", 1, "its reason cannot be read"
    prefix = "error: " if str(message).startswith("error: ") else ""
    reason = str(message).removeprefix(prefix)
    end_process(status, f"{prefix}process {process} of the run ended: {reason}")


def _lost(what: str, announce: bool = True) -> NoReturn:
    end_process(TRY_AGAIN, f"error: {what}. {START_AGAIN}", announce)
