"""Object stores on this machine, with one bucket called `bucket`."""

import contextlib
import os
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from ssd_jax.storage import clouds
from tests.helpers.commands import free_port

SECONDS = 60  # until an emulator answers

# The emulator loses a carriage return at the end of an object, which it takes for a part of the
# line end before the next boundary.
GOOGLE = """
from gcp_storage_emulator import server

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
        for command in (["-c", code], ["-m", "moto.server", "-H127.0.0.1", f"-p{amazon}"]):
            process = stack.enter_context(subprocess.Popen([sys.executable, *command], **quiet))
            stack.callback(process.kill)
        patch = stack.enter_context(pytest.MonkeyPatch.context())
        for name, value in found.items():
            patch.setenv(name, value)
        clouds._file_system.cache_clear()
        stack.callback(clouds._file_system.cache_clear)
        _wait(f"http://127.0.0.1:{google}/storage/v1/b/bucket")
        _wait(f"http://127.0.0.1:{amazon}/")
        clouds._file_system("s3").mkdir("bucket")
        yield os.environ | found


def upload(folder: Path, place: str) -> None:
    """Writes all files of a folder below a place, one after the other."""
    for file in sorted(folder.rglob("*")):
        if file.is_file():
            clouds.write(f"{place}/{file.relative_to(folder).as_posix()}", file.read_bytes())


def _wait(address: str) -> None:
    end = time.monotonic() + SECONDS
    while time.monotonic() < end:
        with contextlib.suppress(urllib.error.URLError, ConnectionError):
            urllib.request.urlopen(address, timeout=5).close()
            return
        time.sleep(0.1)
    raise TimeoutError(f"{address} does not answer")
