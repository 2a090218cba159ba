"""A page in a separate process, with a tiny random network, and raw requests."""

import atexit
import contextlib
import functools
import io
import json
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import psutil
from PIL import Image

from tools.attacks.attack import ROOT

START_SECONDS = 120


class Answer(NamedTuple):
    """An HTTP answer.

    Attributes:
      status: the status; 0 if the connection ended without one.
      headers: the headers; names in lower case.
      body: the received part of the body.
    """

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def error(self) -> str:
        """The message of a rejection; "" if the body has none."""
        try:
            return json.loads(self.body)["error"]
        except (ValueError, KeyError, TypeError):
            return ""


class PageServer:
    """`ssd-jax predict --serve` in a process, until `end`.

    Attributes:
      process: the process.
      port: its port.
    """

    def __init__(self, *flags: str, env: dict[str, str] | None = None) -> None:
        command = [sys.executable, "-m", "ssd_jax", "predict", f"--weights={tiny_detector()}"]
        self._log = tempfile.TemporaryFile("w+")  # noqa: SIM115
        self.process = subprocess.Popen(
            [*command, "--serve", "--port=0", *flags],
            cwd=ROOT,
            env=os.environ | (env or {}),
            stdout=subprocess.DEVNULL,
            stderr=self._log,
        )
        atexit.register(self.end)
        until = time.monotonic() + START_SECONDS
        while (announced := re.search(r"http://\S+:(\d+)", self.log())) is None:
            assert self.process.poll() is None, f"the page did not start: {self.log()}"
            assert time.monotonic() < until, f"the page starts no more: {self.log()}"
            time.sleep(0.05)
        self.port = int(announced[1])

    def log(self) -> str:
        """Its output so far."""
        self._log.seek(0)
        return self._log.read()

    def end(self, signal_number: int = signal.SIGKILL) -> float:
        """Ends it with a signal; returns the seconds until the end."""
        start = time.monotonic()
        if self.process.poll() is None:
            self.process.send_signal(signal_number)
            self.process.wait(30)
        return time.monotonic() - start

    def connect(self, timeout: float = 20) -> socket.socket:
        """A connection."""
        return socket.create_connection(("127.0.0.1", self.port), timeout)

    def exchange(self, request: bytes, timeout: float = 20) -> Answer:
        """The first answer to some bytes."""
        with self.connect(timeout) as connection:
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                connection.sendall(request)
            return read_answer(connection)

    def request(self, method: str, path: str, body: bytes | None = None, **headers: str) -> Answer:
        """The answer to a request; `_` in the names of headers is a hyphen."""
        given = {"host": f"127.0.0.1:{self.port}", "connection": "close"}
        if body is not None:
            given |= {"content-length": str(len(body)), "content-type": "image/png"}
        given |= {name.replace("_", "-"): value for name, value in headers.items()}
        lines = [f"{method} {path} HTTP/1.1", *(f"{name}: {given[name]}" for name in given), "", ""]
        return self.exchange("\r\n".join(lines).encode() + (body or b""), timeout=60)

    def detect(self, body: bytes, **headers: str) -> Answer:
        """The answer to an upload."""
        return self.request("POST", "/detect", body, **headers)

    def check_well(self) -> None:
        """Checks that it serves others within seconds."""
        start = time.monotonic()
        answer = self.detect(picture())
        assert answer.status == 200, f"others are answered {answer.status}: {answer.error}"
        assert time.monotonic() - start < 10, "others wait longer than 10 seconds"
        assert self.process.poll() is None and "Traceback" not in self.log(), self.log()[-2000:]

    def memory(self) -> int:
        """The memory in bytes of this process and its children."""
        total = 0
        with contextlib.suppress(psutil.NoSuchProcess):
            process = psutil.Process(self.process.pid)
            for each in (process, *process.children(recursive=True)):
                with contextlib.suppress(psutil.NoSuchProcess):
                    total += each.memory_info().rss
        return total

    @contextlib.contextmanager
    def check_growth(self, most: int) -> Iterator[None]:
        """Checks that memory never grows by more than this number of bytes."""
        before = peak = self.memory()
        ended = threading.Event()

        def watch() -> None:
            nonlocal peak
            while not ended.wait(0.02):
                peak = max(peak, self.memory())

        thread = threading.Thread(target=watch)
        thread.start()
        try:
            yield
        finally:
            ended.set()
            thread.join()
        grown = (peak - before) / 2**20
        print(f"memory: {before / 2**20:.0f} MiB at the start, {grown:.0f} MiB more at most")
        assert grown < most / 2**20, f"memory grew by {grown:.0f} MiB"


def read_answer(connection: socket.socket) -> Answer:
    """The next answer on a connection."""
    file = connection.makefile("rb")
    try:
        first = file.readline()
        while first.startswith(b"HTTP/1.1 100"):
            file.readline()
            first = file.readline()
        if not first:
            return Answer(0, {}, b"")
        headers = {}
        while line := file.readline().strip():
            name, _, value = line.decode("latin-1").partition(":")
            headers[name.lower()] = value.strip()
        length = int(
            headers.get("content-length", -1)
        )  # without a length, to the end of the connection
        return Answer(int(first.split()[1]), headers, file.read(length))
    except ConnectionResetError:
        return Answer(0, {}, b"")
    except TimeoutError:
        raise AssertionError("there is no answer") from None


@functools.cache
def the_server() -> PageServer:
    """The page that the attacks share."""
    return PageServer()


@functools.cache
def picture(width: int = 60, height: int = 40, kind: str = "PNG", **options: Any) -> bytes:
    """The file of an image."""
    noise = np.random.default_rng(0).integers(0, 256, (3, 4, 3), dtype=np.uint8)
    image = Image.fromarray(noise).resize((width, height), Image.Resampling.BICUBIC)
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


@functools.cache
def tiny_detector() -> Path:
    """The folder of a detector of 64 × 64 pixels with random parameters."""
    from ssd_jax.config.files import load_config
    from ssd_jax.interop.trained import Trained, save_folder
    from ssd_jax.models.network import build_network
    from tools.small_run import TINY

    config = load_config(str(TINY))
    names = ("circle", "star")
    network = build_network(config.model, len(names))
    folder = tempfile.TemporaryDirectory()
    atexit.register(folder.cleanup)
    place = Path(folder.name, "detector")
    save_folder(Trained(network, network.init(7), names, (1, 2), config), place)
    return place
