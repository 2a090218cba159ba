"""Watches the processes of a run, so that none waits for another for ever.

Every process tells each second, by way of JAX's coordinator in process 0, that it is there, and
looks at what the others told. Where one ends by an error the others end with its message; where one
gives no sign of life, or a wait for the others lasts too long, this one ends.
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

from jax._src import distributed  # there is no public way to the coordinator

from ssd_jax.errors import START_AGAIN, TRY_AGAIN

PERIOD = 1.0  # seconds between two signs of life
FAREWELL = 6.0  # seconds that an ending process gives the others to hear why
KEY = "ssd_jax/alive/"
ENDED = "ssd_jax/ended"  # the first process that ends by an error tells here why
LISTEN = 500  # milliseconds of one call that listens; ends of this process wait for it
LONGEST_WAIT = 1800.0  # seconds, where nothing else is said
LEFT = "left"  # what a process tells that has done its work
SILENCE = 1.5 * PERIOD  # after which process 0 is asked by a connection whether it is there

_ending = threading.Lock()  # whoever ends the process holds it for good


class Watch:
    """The signs of life of all processes, told and looked at in threads of their own.

    Attributes:
      longest_wait: seconds that a wait for the other processes may take.
    """

    def __init__(self, timeout: float, longest_wait: float):
        """Begins to watch; all processes have joined.

        Args:
          timeout: after so many seconds without a sign of life a process counts as dead.
          longest_wait: seconds that a wait for the other processes may take.
        """
        self.longest_wait = longest_wait
        state = distributed.global_state
        assert state.client is not None
        self._client, self._index, self._count = state.client, state.process_id, state.num_processes
        self._timeout = timeout
        now = time.monotonic()
        self._answered = now
        # By process what it told last, and since when.
        self._told: dict[int, tuple[str, float]] = {i: ("", now) for i in range(self._count)}
        self._wait: tuple[str, float] | None = None  # what for, and until when
        self._stopped = threading.Event()
        self._threads = [
            threading.Thread(target=work, daemon=True)
            for work in (self._tell, self._judge, self._listen)
        ]
        for thread in self._threads:
            thread.start()
        _delay_aborts()

    def stop(self) -> None:
        """Ends the watch, and lets the others know that this process has done its work."""
        self._stopped.set()
        for thread in self._threads:
            thread.join(self._timeout)
        with contextlib.suppress(RuntimeError):
            self._set(LEFT)

    @contextlib.contextmanager
    def waiting(self, for_what: str) -> Iterator[None]:
        """A block that waits for other processes, which ends this one where it lasts too long."""
        outer, self._wait = self._wait, (for_what, time.monotonic() + self.longest_wait)
        try:
            yield
        finally:
            self._wait = outer

    def farewell(self, status: int, message: str) -> None:
        """Tells the others that this process ends, and gives them time to hear it.

        Process 0 goes last, because they hear it through that.
        """
        self._stopped.set()
        deadline = time.monotonic() + FAREWELL
        with contextlib.suppress(RuntimeError):  # an earlier end of another process
            self._client.key_value_set(ENDED, json.dumps([self._index, status, message]))
        with contextlib.suppress(RuntimeError):
            self._set(LEFT)
            while time.monotonic() < deadline:
                if set(self._look().values()) == {LEFT}:
                    break
                time.sleep(PERIOD / 10)
            if self._index == 0:
                time.sleep(PERIOD)

    def _set(self, value: str) -> None:
        self._client.key_value_set(f"{KEY}{self._index}", value, allow_overwrite=True)

    def _look(self) -> dict[int, str]:
        """What each process told last."""
        pairs = self._client.key_value_dir_get(KEY)
        return {int(key.rpartition("/")[2]): value for key, value in pairs}

    def _tell(self) -> None:
        number = 0
        while not self._stopped.wait(PERIOD):
            number += 1
            try:
                self._set(str(number))
                told = self._look()
            except RuntimeError:
                continue  # `_judge` decides after how long
            now = time.monotonic()
            self._answered = now
            for process, value in told.items():
                if value != self._told[process][0]:
                    self._told[process] = (value, now)

    def _listen(self) -> None:
        """Ends this process as soon as another one does, or process 0 cannot be reached."""
        while not self._stopped.is_set():
            try:
                value = self._client.blocking_key_value_get(ENDED, LISTEN)
            except RuntimeError as error:
                if "DEADLINE_EXCEEDED" in str(error):
                    continue
                if self._stopped.is_set():
                    return
                # Nobody is left to tell.
                _lost("process 0 of the run is gone", farewell=False)
            if not self._stopped.is_set():
                _end_like(value)

    def is_refused(self) -> bool:
        """Whether nobody listens any more where process 0 did."""
        host, _, port = (distributed.global_state.coordinator_address or "").rpartition(":")
        try:
            socket.create_connection((host.strip("[]"), int(port)), timeout=PERIOD).close()
        except ConnectionRefusedError:
            return True
        except (OSError, ValueError):
            pass  # slow, or its host is gone: `_judge` decides after how long
        return False

    def _judge(self) -> None:
        while not self._stopped.wait(PERIOD / 2):
            now, wait = time.monotonic(), self._wait
            if wait is not None and now > wait[1]:
                _lost(f"the wait for {wait[0]} has lasted longer than {self.longest_wait:g} s")
            if now - self._answered > SILENCE and self.is_refused():
                _lost("process 0 of the run is gone", farewell=False)
            if now - self._answered > self._timeout:
                _lost(f"process 0 has not answered for {self._timeout:g} s")
            for process, (value, since) in self._told.items():
                if value != LEFT and process != self._index and now - since > self._timeout:
                    # Told late where process 0 was slow.
                    silent = self._answered - since
                    if silent > self._timeout - 2 * PERIOD:
                        _lost(f"process {process} has given no sign of life for {silent:.0f} s")


def _delay_aborts() -> None:
    """Has this program abort 6 s later than it would.

    Where process 0 is gone JAX aborts at once, with a status that does not say that the same
    command goes on. Meanwhile `_judge` ends the program with one that does. The handler is the
    `sleep` of C: it gets the number of the signal, 6, as its seconds, and needs no thread of
    Python.
    """
    if sys.platform == "win32":  # it has neither signal nor function of this form
        return
    libc = ctypes.CDLL(None)
    libc.signal.argtypes = (ctypes.c_int, ctypes.c_void_p)
    libc.signal.restype = ctypes.c_void_p
    writes_stacks = faulthandler.is_enabled()
    faulthandler.disable()
    libc.signal(signal.SIGABRT, ctypes.cast(libc.sleep, ctypes.c_void_p))
    if writes_stacks:  # first, and then the handler before
        faulthandler.enable()


_watch: Watch | None = None


def start(timeout: float, longest_wait: float) -> None:
    """Begins to watch the processes that have joined; see `Watch`."""
    global _watch
    _watch = Watch(timeout, longest_wait)


def stop() -> None:
    """Ends the watch, if there is one."""
    global _watch
    if _watch:
        _watch.stop()
        _watch = None


def is_watching() -> bool:
    """Whether this process has joined others."""
    return _watch is not None


def longest_wait() -> float:
    """Seconds that a wait for the other processes may take."""
    return _watch.longest_wait if _watch else LONGEST_WAIT  # JAX may have joined them by itself


def waiting(for_what: str) -> contextlib.AbstractContextManager[None]:
    """A block that waits for other processes; where it lasts too long, this process ends."""
    return _watch.waiting(for_what) if _watch else contextlib.nullcontext()


def end_process(status: int, message: str = "", farewell: bool = True) -> NoReturn:
    """Ends this process with an exit status, after a message on standard error.

    Args:
      status: its exit status.
      message: "" for none.
      farewell: whether the other processes of the run hear the message and end, too.
    """
    _ending.acquire()  # never released: the first to come here ends the process
    if message:
        print(f"\n{message}" if sys.stderr.isatty() else message, file=sys.stderr)
    sys.stdout.flush()
    sys.stderr.flush()
    if _watch and farewell:
        telling = threading.Thread(target=_watch.farewell, args=(status, message), daemon=True)
        telling.start()
        deadline = time.monotonic() + FAREWELL + 2 * PERIOD  # process 0 may not answer
        while telling.is_alive() and time.monotonic() < deadline and not _watch.is_refused():
            telling.join(PERIOD / 2)
    os._exit(status)


def _end_like(value: str) -> NoReturn:
    """Ends this process as another one has ended."""
    try:
        process, status, message = json.loads(value)
        status = int(status) or 1
    except (ValueError, TypeError):
        process, status, message = "?", 1, "for no reason that can be read"
    prefix = "error: " if str(message).startswith("error: ") else ""
    reason = str(message).removeprefix(prefix)
    end_process(status, f"{prefix}process {process} of the run ended: {reason}")


def _lost(what: str, farewell: bool = True) -> NoReturn:
    end_process(TRY_AGAIN, f"error: {what}. {START_AGAIN}", farewell)
