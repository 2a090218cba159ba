"""Requests to the page with foreign names and origins, other addresses, and invalid HTTP."""

import base64
import json
from collections.abc import Callable, Sequence
from pathlib import Path

from tools.attacks.attack import Attack
from tools.attacks.page_server import Answer, PageServer, picture, the_server

KIND = "page: requests"


def _refused(
    name: str, ask: Callable[[PageServer], Answer], statuses: Sequence[int], words: str = ""
) -> Attack:
    """An attack that must be answered with one of these statuses; 0 is a closed connection."""

    def run(folder: Path) -> None:
        server = the_server()
        answer = ask(server)
        assert answer.status in statuses, f"{answer.status}: {answer.body[:300]!r}"
        assert words in answer.error, answer.error
        assert b"root:" not in answer.body and b"Traceback" not in answer.body
        assert server.request("GET", "/").status == 200

    return Attack(KIND, name, run, quick=True)


STRANGE_HOSTS = (
    "evil.example",
    "evil.example:7860",
    "127.0.0.1.evil.example",
    "localhost.evil.example",
    "evil.example@127.0.0.1",
    "127.0.0.1@evil.example",
    "127.0.0.1, evil.example",
    "127.0.0.1:80:80",
    "127.0.0.1/evil.example",
    "127.0.0.1#evil.example",
    "0.0.0.0",
    "192.168.0.1",
    "2130706433",
    "127.1",
    "0x7f.0.0.1",
    "[::ffff:127.0.0.1]",
    "[::1",
    "localhost\x01",
    "*",
    "a" * 5000,
)
HOSTS = [
    _refused(
        f"{method} with the host {host[:40]!r}",
        lambda server, method=method, host=host: server.request(
            method,
            "/detect" if method == "POST" else "/",
            picture() if method == "POST" else None,
            host=host,
        ),
        (400, 403),
    )
    for host in STRANGE_HOSTS
    for method in ("GET", "POST")
]
HOSTS += [
    _refused(
        name,
        lambda server, request=request: server.exchange(request % {b"port": server.port}),
        (400, 403),
    )
    for name, request in {
        "no host": b"GET / HTTP/1.1\r\n\r\n",
        "no host in HTTP 1.0": b"GET / HTTP/1.0\r\n\r\n",
        "an empty host": b"GET / HTTP/1.1\r\nHost:\r\n\r\n",
        "two hosts": b"GET / HTTP/1.1\r\nHost: 127.0.0.1:%(port)d\r\nHost: evil.example\r\n\r\n",
        "a host on two lines": b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n evil.example\r\n\r\n",
    }.items()
]

STRANGE_ORIGINS = (
    "http://evil.example",
    "https://evil.example",
    "null",
    "file://",
    "",
    "http://127.0.0.1",
    "http://127.0.0.1:1",
    "http://localhost:3000",
    "https://127.0.0.1.evil.example",
    "chrome-extension://abcdefgh",
    "http://127.0.0.1:%d.evil.example",
    "http://evil.example/127.0.0.1:%d",
    "http://evil.example@127.0.0.1:%d",
    "127.0.0.1:%d",
)
ORIGINS = [
    _refused(
        f"an upload of the origin {origin!r}",
        lambda server, origin=origin: server.detect(
            picture(), origin=origin.replace("%d", str(server.port))
        ),
        (403,),
        "other pages",
    )
    for origin in STRANGE_ORIGINS
]
ORIGINS += [
    _refused(
        f"a {site} upload as {kind}",
        lambda server, site=site, kind=kind: server.detect(
            picture(), sec_fetch_site=site, content_type=kind
        ),
        (403,),
        "other pages",
    )
    for site in ("cross-site", "same-site", "strange")
    for kind in ("text/plain", "multipart/form-data; boundary=x")
]

PATHS = [
    _refused(
        f"GET {path}",
        lambda server, path=path: server.request("GET", path),
        (400, 404),
    )
    for path in (
        "/../../../../etc/passwd",
        "/..%2f..%2f..%2f..%2fetc%2fpasswd",
        "/%2e%2e/%2e%2e/etc/passwd",
        "/page.js/../../../server.py",
        "/static/page.js",
        "//etc/passwd",
        "/page.js%00.png",
        "/file=/etc/passwd",
        "/gradio_api/file=/etc/passwd",
        "http://evil.example/",
        "*",
        "/docs",
        "/detect/",
        "/" + "a" * 20_000,
        "/%ff%fe",
        "/..\\..\\windows",
    )
]
METHODS = [
    _refused(
        f"{method} {path}",
        lambda server, method=method, path=path: server.request(method, path),
        (400, 405),
    )
    for method, path in (
        ("PUT", "/"),
        ("DELETE", "/page.js"),
        ("TRACE", "/"),
        ("OPTIONS", "/detect"),
        ("OPTIONS", "/"),
        ("GET", "/detect"),
        ("PATCH", "/detect"),
        ("FOO", "/"),
        ("post", "/detect"),
    )
]

START = b"POST /detect HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: image/png\r\n"
MALFORMED = {
    "two lengths": START + b"Content-Length: 5\r\nContent-Length: 6\r\n\r\nhello!",
    "a length and chunks": START
    + b"Content-Length: 6\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"
    b"GET /nowhere HTTP/1.1\r\n\r\n",
    "chunks alone": START + b"Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
    "chunks of a wrong length": START
    + b"Transfer-Encoding: chunked\r\n\r\nZZ\r\nhello\r\n0\r\n\r\n",
    "two transfer encodings": START
    + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n0\r\n\r\n",
    "an unknown transfer encoding": START + b"Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
    "a transfer encoding after a space": START + b"Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n",
    "a negative length": START + b"Content-Length: -1\r\n\r\n",
    "a length with a sign": START + b"Content-Length: +5\r\n\r\nhello",
    "a length in hex": START + b"Content-Length: 0x5\r\n\r\nhello",
    "a length of 30 digits": START + b"Content-Length: " + b"9" * 30 + b"\r\n\r\n",
    "a length of 20 GB": START + b"Content-Length: 20000000000\r\n\r\n",
    "no length": START + b"\r\n",
    "a header without a colon": b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nnonsense\r\n\r\n",
    "a header with a null": b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nA: \x00\r\n\r\n",
    "headers of a megabyte": b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nA: " + b"a" * 2**20,
    "100,000 headers": b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n" + b"A: b\r\n" * 100_000 + b"\r\n",
    "a first line without end": b"GET /" + b"a" * 200_000,
    "HTTP 0.9": b"GET /\r\n\r\n",
    "HTTP 2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes(9),
    "TLS": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(500),
    "random bytes": bytes(range(256)) * 400,
    "an open proxy": b"CONNECT evil.example:443 HTTP/1.1\r\nHost: evil.example\r\n\r\n",
    "an upgrade to h2c": b"GET /detect HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: Upgrade, HTTP2-"
    b"Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAoAAAAAIAAAAA\r\n\r\n",
    "a web socket": b"GET /detect HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: Upgrade\r\n"
    b"Upgrade: websocket\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
    b"Sec-WebSocket-Version: 13\r\n\r\n",
}
RAW = [
    _refused(
        f"a request with {name}" if " " in name else name,
        lambda server, request=request: server.exchange(request),
        (0, 400, 403, 405, 411, 413, 431, 501),
    )
    for name, request in MALFORMED.items()
]


def _smuggle(folder: Path) -> None:
    """A second request in the body of the first: it must not be treated as a request."""
    server = the_server()
    hidden = b"GET /page.js HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"
    request = START + b"Content-Length: %d\r\n\r\n" % len(hidden) + hidden
    with server.connect(5) as connection:
        connection.sendall(request)
        answers = b""
        while part := connection.recv(65536):
            answers += part
    assert answers.count(b"HTTP/1.1 ") == 1 and b" 422 " in answers, answers[:500]


def _split_answer(folder: Path) -> None:
    """A file name with line ends must not become a header."""
    name = "a%0d%0aSet-Cookie: a=b"
    head = f'--x\r\nContent-Disposition: form-data; name="a"; filename="{name}"\r\n\r\n'
    body = head.encode() + picture() + b"\r\n--x--\r\n"
    answer = the_server().detect(body, content_type="multipart/form-data; boundary=x")
    assert answer.status == 200 and "set-cookie" not in answer.headers
    assert json.loads(answer.body)["images"][0]["file_name"] == name


def _passwords(folder: Path) -> None:
    server = PageServer("--allowed_hosts=pictures.example", env={"SSD_JAX_AUTH": "ann:secret"})
    try:
        assert "secret" not in " ".join(server.process.args)
        right = base64.b64encode(b"ann:secret").decode()
        for given in (
            "",
            "Basic",
            "Basic ?",
            "Basic " + right[:-4],
            f"Bearer {right}",
            "Basic Og==",
        ):
            for method, path in (("GET", "/"), ("GET", "/page.js"), ("POST", "/detect")):
                body = picture() if method == "POST" else None
                answer = server.request(method, path, body, authorization=given)
                assert answer.status == 401, f"{given}: {answer.status}"
        given = f"Basic {right}"
        assert server.detect(picture(), authorization=given).status == 200
        answer = server.request("GET", "/", host="pictures.example", authorization=given)
        assert answer.status == 200
        answer = server.request("GET", "/", host="evil.example", authorization=given)
        assert answer.status == 403
    finally:
        server.end()


ATTACKS = [
    *HOSTS,
    *ORIGINS,
    *PATHS,
    *METHODS,
    *RAW,
    Attack(KIND, "a request in the body of another", _smuggle, quick=True),
    Attack(KIND, "a header in the name of a file", _split_answer, quick=True),
    Attack(KIND, "wrong passwords", _passwords),
]
