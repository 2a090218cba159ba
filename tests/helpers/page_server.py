"""A page that a thread of this process serves."""

import contextlib
import http.client
import json
import threading
import time
from collections.abc import Iterator
from typing import Any

from ssd_jax.inference.page.app import make_app
from ssd_jax.inference.page.guard import AllowedNames
from ssd_jax.inference.page.server import make_server


class PageServer:
    """A page that is served.

    Attributes:
      port: of 127.0.0.1.
      url: its address.
    """

    def __init__(self, port: int):
        self.port = port
        self.url = f"http://127.0.0.1:{port}/"

    def request(
        self, method: str, path: str, body: bytes | None = None, **headers: str
    ) -> tuple[int, http.client.HTTPMessage, bytes]:
        """Status, headers and body of an answer; `_` in names of headers is a hyphen."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)
        names = {name.replace("_", "-"): value for name, value in headers.items()}
        with contextlib.closing(connection):
            connection.request(method, path, body, names)
            answer = connection.getresponse()
            return answer.status, answer.headers, answer.read()

    def detect(self, body: bytes, **headers: str) -> tuple[int, dict[str, Any]]:
        """Status and JSON of `POST /detect`."""
        given = {"content_type": "application/octet-stream"} | headers
        status, _, answer = self.request("POST", "/detect", body, **given)
        return status, json.loads(answer)


@contextlib.contextmanager
def page_server(detector: Any, **options: Any) -> Iterator[PageServer]:
    """A page of a detector, until the context ends."""
    threshold = options.get("score_threshold", 0.4)
    names = AllowedNames("127.0.0.1", "127.0.0.1", options.get("allowed_hosts", ()))
    app = make_app(detector, threshold, names, options.get("auth", ""))
    server = make_server(app)
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        while not server.started:
            assert thread.is_alive()
            time.sleep(0.01)
        yield PageServer(server.servers[0].sockets[0].getsockname()[1])
    finally:
        server.should_exit = True
        thread.join()
