"""Object stores on this machine, with one bucket called `bucket`."""

import asyncio
import contextlib
import os
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ssd_jax.storage import clouds, ranges
from ssd_jax.storage.clients import file_system
from tests.helpers.commands import free_port
from tools.slow_store import SlowStore, run

SECONDS = 60  # until an emulator answers

# The emulator loses a carriage return at the end of an object, which it takes for a part of the
# line end before the next boundary. It also lets only five connections wait: others begin again
# after a second.
GOOGLE = """
import socketserver
from gcp_storage_emulator import server

socketserver.TCPServer.request_queue_size = 128

class Parser(server.BytesParser):
    def parsebytes(self, text):
        end = b"\\n--==0==--"
        if text.endswith(end):
            text = text.removesuffix(end) + b"\\r" + end
        return super().parsebytes(text)

server.BytesParser = Parser
server.create_server("127.0.0.1", {port}, in_memory=True, default_bucket="bucket").run()
"""


@contextlib.contextmanager
def running_stores() -> Iterator[dict[str, str]]:
    """Starts both; gives the variables of the environment by which clients find them."""
    pytest.importorskip("gcsfs")
    pytest.importorskip("s3fs")
    pytest.importorskip("gcp_storage_emulator")
    pytest.importorskip("moto")
    google, amazon = free_port(), free_port()
    found = {
        "STORAGE_EMULATOR_HOST": f"http://127.0.0.1:{google}",
        "AWS_ENDPOINT_URL": f"http://127.0.0.1:{amazon}",
        "AWS_ACCESS_KEY_ID": "testing",
        "AWS_SECRET_ACCESS_KEY": "testing",
        "AWS_DEFAULT_REGION": "us-east-1",
    }
    code = GOOGLE.format(port=google)
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    with contextlib.ExitStack() as stack:
        found["XDG_CACHE_HOME"] = stack.enter_context(tempfile.TemporaryDirectory())
        for command in (["-c", code], ["-m", "moto.server", "-H127.0.0.1", f"-p{amazon}"]):
            process = stack.enter_context(subprocess.Popen([sys.executable, *command], **quiet))
            stack.callback(process.kill)
        patch = stack.enter_context(pytest.MonkeyPatch.context())
        for name, value in found.items():
            patch.setenv(name, value)
        ranges.forget_clients()
        stack.callback(ranges.forget_clients)
        _wait(f"http://127.0.0.1:{google}/storage/v1/b/bucket")
        _wait(f"http://127.0.0.1:{amazon}/")
        file_system("s3").mkdir("bucket")
        yield os.environ | found


@contextlib.contextmanager
def slowed(store: str, **settings: Any) -> Iterator[tuple[SlowStore, str]]:
    """Runs the proxy of `tools/slow_store.py` in a thread; gives it and its HOST:PORT.

    Args:
      store: HOST:PORT of the store.
      settings: of the proxy.
    """
    proxy, port = SlowStore(store, **settings), free_port()
    loop, stopped = asyncio.new_event_loop(), asyncio.Event()

    async def serve() -> None:  # its end cancels all connections
        serving = asyncio.create_task(run(proxy, port))
        await stopped.wait()
        serving.cancel()

    def work() -> None:
        with asyncio.Runner(loop_factory=lambda: loop) as runner:
            runner.run(serve())

    thread = threading.Thread(target=work)
    thread.start()
    try:
        _wait_for_port(port)
        yield proxy, f"127.0.0.1:{port}"
    finally:
        loop.call_soon_threadsafe(stopped.set)
        thread.join()


@contextlib.contextmanager
def failing_stores(every: int) -> Iterator[list[SlowStore]]:
    """Lets some requests to both running stores fail, at fixed intervals; returns their proxies."""
    proxies = []
    with contextlib.ExitStack() as stack:
        patch = stack.enter_context(pytest.MonkeyPatch.context())
        for name in ("STORAGE_EMULATOR_HOST", "AWS_ENDPOINT_URL"):
            store = os.environ[name].removeprefix("http://")
            proxy, address = stack.enter_context(slowed(store, delay=0.0, fail_every=every))
            patch.setenv(name, f"http://{address}")
            proxies.append(proxy)
        ranges.forget_clients()
        stack.callback(ranges.forget_clients)
        yield proxies


def upload(folder: Path, place: str) -> None:
    """Writes all files of a folder below a place, one after the other."""
    for file in sorted(folder.rglob("*")):
        if file.is_file():
            clouds.write(f"{place}/{file.relative_to(folder).as_posix()}", file.read_bytes())


def _wait_for_port(port: int) -> None:
    end = time.monotonic() + SECONDS
    while time.monotonic() < end:
        with contextlib.suppress(ConnectionError):
            socket.create_connection(("127.0.0.1", port), timeout=5).close()
            return
        time.sleep(0.01)
    raise TimeoutError(f"port {port} does not answer")


def _wait(address: str) -> None:
    end = time.monotonic() + SECONDS
    while time.monotonic() < end:
        with contextlib.suppress(urllib.error.URLError, ConnectionError):
            urllib.request.urlopen(address, timeout=5).close()
            return
        time.sleep(0.1)
    raise TimeoutError(f"{address} does not answer")
