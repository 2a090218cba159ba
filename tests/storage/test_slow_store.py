"""The proxy of `tools/slow_store.py`."""

import asyncio
import contextlib
import http.client
import http.server
import threading

import pytest

from tests.helpers.stores import slowed


class Store(http.server.BaseHTTPRequestHandler):
    """Answers like an emulator: HTTP/1.0, with the method, the path and the body of the request."""

    def do_GET(self):
        self.server.asked.append(self.path)
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        content = f"{self.command} {self.path} {self.headers['Range']} ".encode() + body
        self.send_response(206 if self.headers["Range"] else 200)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    do_PUT = do_GET  # noqa: N815

    def log_message(self, *given):
        del given


@pytest.fixture
def store():
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Store) as server:
        server.asked = []
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()


@contextlib.contextmanager
def client_of(store, **settings):
    """The proxy and a client with one connection to it."""
    with slowed(f"127.0.0.1:{store.server_port}", **settings) as (proxy, address):
        client = http.client.HTTPConnection(address, timeout=60)

        def ask(*request, **headers):
            client.request(*request, headers=headers)
            answer = client.getresponse()
            return answer.status, answer.read()

        yield proxy, ask
        client.close()


def test_every_third_request_fails_and_the_others_are_passed_on_over_one_connection(store):
    with client_of(store, delay=0.0, fail_every=3) as (proxy, ask):
        answers = [ask("GET", f"/{number}") for number in range(6)]
    refused = (503, b"")
    assert answers == [(200, b"GET /0 None "), (200, b"GET /1 None "), refused,
                       (200, b"GET /3 None "), (200, b"GET /4 None "), refused]  # fmt: skip
    assert store.asked == ["/0", "/1", "/3", "/4"]
    assert (proxy.passed, proxy.remembered, proxy.refused) == (4, 0, 2)


def test_request_bodies_are_passed_on_after_expect_100_continue(store):
    with client_of(store, delay=0.0) as (_, ask):
        assert ask("PUT", "/a", b"content") == (200, b"PUT /a None content")
        assert ask("PUT", "/a", b"more", Expect="100-continue") == (200, b"PUT /a None more")


def test_reads_of_ranges_are_remembered_and_nothing_else(store):
    with client_of(store, delay=0.0, remembers=True) as (proxy, ask):
        for _ in range(2):
            assert ask("GET", "/a", Range="bytes=0-3") == (206, b"GET /a bytes=0-3 ")
            assert ask("GET", "/a", Range="bytes=4-7") == (206, b"GET /a bytes=4-7 ")
            assert ask("GET", "/a") == (200, b"GET /a None ")
    assert (proxy.passed, proxy.remembered) == (4, 2)


def test_each_request_is_delayed(store, monkeypatch):
    waited, sleep = [], asyncio.sleep
    monkeypatch.setattr(asyncio, "sleep", lambda seconds: (waited.append(seconds), sleep(0))[1])
    with client_of(store, delay=20.0) as (_, ask):
        ask("GET", "/a")
        ask("GET", "/b")
    assert waited == [0.02, 0.02]
