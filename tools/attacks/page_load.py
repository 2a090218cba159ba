"""Many clients, slow and disconnecting clients, and the end of the page."""

import contextlib
import io
import os
import signal
import socket
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import psutil
from PIL import Image

from tools.attacks.attack import Attack
from tools.attacks.page_server import PageServer, picture, read_answer, the_server

KIND = "page: load"
SESSIONS = 200
MOST_GROWTH = 300 * 2**20  # bytes
HEAD = b"POST /detect HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: image/png\r\n"
TRICKLE = HEAD + b"Content-Length: 1000000\r\n\r\n"


def _twelve_megapixels(seed: int) -> bytes:
    """A JPEG of 4000 × 3000 pixels and 5 MB, like a photo."""
    noise = np.random.default_rng(seed).integers(0, 256, (600, 800, 3), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(noise).resize((4000, 3000)).save(file, "JPEG", quality=90)
    return file.getvalue()


def _patient(server: PageServer, content: bytes) -> int:
    """Uploads like the page: retries if the server is busy; returns the status."""
    for _ in range(20):
        answer = server.detect(content)
        if answer.status != 503:
            break
        assert "try again" in answer.error
        time.sleep(float(answer.headers["retry-after"]))
    return answer.status


def _memory_of_sessions(folder: Path) -> None:
    """Each session loads the page and uploads an image of 12 megapixels; 32 at a time."""
    server = the_server()
    server.check_well()
    images = [_twelve_megapixels(seed) for seed in range(3)]

    def session(number: int) -> int:
        for path in ("/", "/page.js", "/page.css"):
            assert server.request("GET", path).status == 200
        return _patient(server, images[number % len(images)])

    with server.check_growth(MOST_GROWTH), ThreadPoolExecutor(32) as pool:
        statuses = list(pool.map(session, range(SESSIONS)))
    assert set(statuses) == {200}, statuses
    server.check_well()


def _many_at_once(size: int, number: int) -> Callable[[Path], None]:
    """All clients get their detections, or are asked to retry; after that they get them."""

    def run(folder: Path) -> None:
        server = the_server()
        content = _twelve_megapixels(0) if size == 12 else picture()
        with server.check_growth(MOST_GROWTH), ThreadPoolExecutor(number) as pool:
            statuses = list(pool.map(lambda _: _patient(server, content), range(number)))
        assert set(statuses) == {200}, statuses
        server.check_well()

    return run


def _full_uploads(folder: Path) -> None:
    """60 uploads of 20 MiB that are not images."""
    server = the_server()
    content = os.urandom(20 * 2**20)
    with server.check_growth(MOST_GROWTH), ThreadPoolExecutor(20) as pool:
        statuses = list(pool.map(lambda _: _patient(server, content), range(60)))
    assert set(statuses) <= {422, 503}, statuses
    server.check_well()


def _open(server: PageServer, number: int, first: bytes) -> list[socket.socket]:
    connections = [server.connect() for _ in range(number)]
    for connection in connections:
        with contextlib.suppress(ConnectionError):
            connection.sendall(first)
    return connections


def _held(number: int, first: bytes, more: bytes, ends: float) -> Callable[[Path], None]:
    """Connections that send some bytes first, and then one byte per second.

    Other clients are served meanwhile, and each connection ends within `ends` seconds.
    """

    def run(folder: Path) -> None:
        server = the_server()
        connections = _open(server, number, first)
        server.check_well()
        until = time.monotonic() + ends
        while time.monotonic() < until and connections:
            time.sleep(1)
            left = []
            for connection in connections:
                try:
                    connection.sendall(more)
                    connection.settimeout(0.001)
                    with contextlib.suppress(TimeoutError):
                        if not connection.recv(1000):
                            raise ConnectionResetError
                    left.append(connection)
                except ConnectionError:
                    connection.close()
            connections = left
        assert not connections, f"{len(connections)} are open after {ends} seconds"
        server.check_well()

    return run


def _aborted(share: float) -> Callable[[Path], None]:
    """100 uploads that end after a share of their bytes, or before their answer."""

    def run(folder: Path) -> None:
        server = the_server()
        content = _twelve_megapixels(0)
        head = HEAD + b"Content-Length: %d\r\n\r\n" % len(content)
        with server.check_growth(MOST_GROWTH):
            for _ in range(100):
                with server.connect() as connection, contextlib.suppress(ConnectionError):
                    connection.sendall(head + content[: int(share * len(content))])
        _wait_until_quiet(server)
        server.check_well()

    return run


def _wait_until_quiet(server: PageServer) -> None:
    for _ in range(100):
        if server.detect(picture()).status == 200:
            return
        time.sleep(0.5)
    raise AssertionError("the page stays busy")


def _no_reader(folder: Path) -> None:
    """300 clients that request the page repeatedly and read nothing."""
    server = the_server()
    request = b"GET /page.js HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"
    with server.check_growth(MOST_GROWTH):
        connections = _open(server, 300, request * 200)
        time.sleep(2)
        server.check_well()
    for connection in connections:
        connection.close()
    server.check_well()


def _pipelined(folder: Path) -> None:
    """Two requests in one piece are answered in order."""
    request = b"GET /%s HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"
    with the_server().connect() as connection:
        connection.sendall(request % b"page.css" + request % b"icon.svg")
        file = connection.makefile("rb")
        answers = b""
        while answers.count(b"HTTP/1.1 200") < 2 or not answers.endswith(b"</svg>\n"):
            answers += file.read1(65536)
    assert answers.index(b"text/css") < answers.index(b"image/svg")


def _slow_with_others(folder: Path) -> None:
    """An image that takes the largest allowed time: others are served meanwhile."""
    from tools.attacks.page_uploads import scans

    server = the_server()
    content = scans(20_000)
    with ThreadPoolExecutor(1) as pool:
        slow = pool.submit(server.detect, content)
        time.sleep(0.5)
        for _ in range(5):
            server.check_well()
        assert slow.result().status == 422, slow.result()


def _preparers_killed(folder: Path) -> None:
    """The processes that open images are killed, idle and busy."""
    server = the_server()
    content = _twelve_megapixels(0)
    for pause in (0, 0, 0.05, 0.1, 0.2):
        with ThreadPoolExecutor(1) as pool:
            answer = pool.submit(server.detect, content)
            time.sleep(pause)
            for child in psutil.Process(server.process.pid).children():
                child.kill()
            assert answer.result().status in (200, 422), answer.result()
        server.check_well()


def _preparers_stopped(folder: Path) -> None:
    """One of the processes that open images hangs, and is killed; others are served meanwhile."""
    server = the_server()
    server.check_well()
    one = psutil.Process(server.process.pid).children()[0]
    one.suspend()
    with ThreadPoolExecutor(3) as pool:
        answers = [pool.submit(server.detect, picture()) for _ in range(7)]
        found = [answer.result().status for answer in answers]
    # At most the upload of the hanging process.
    assert sorted(found)[:-1] == [200] * 6 and found.count(422) <= 1, found
    assert not one.is_running() or 422 not in found
    server.check_well()


def _no_files(folder: Path) -> None:
    """Uploads write no files, also not temporarily."""
    server = PageServer(env={"TMPDIR": str(folder)})
    try:
        before = set(folder.rglob("*"))
        content = _twelve_megapixels(0)
        body = (
            b'--x\r\nContent-Disposition: form-data; name="a"; filename="a"\r\n\r\n'
            + content
            + b"\r\n--x--\r\n"
        )
        for kind, upload in (("image/jpeg", content), ("multipart/form-data; boundary=x", body)):
            with ThreadPoolExecutor(1) as pool:
                answer = pool.submit(server.detect, upload, content_type=kind)
                while not answer.done():
                    files = {each.path for each in psutil.Process(server.process.pid).open_files()}
                    assert not {each for each in files if str(folder) in each}, files
                assert answer.result().status == 200
            assert set(folder.rglob("*")) == before
    finally:
        server.end()


def _ended(number: int, status: tuple[int, ...], busy: str) -> Callable[[Path], None]:
    """A signal ends the page at once, also during detection; no process remains."""

    def run(folder: Path) -> None:
        server = PageServer()
        children = psutil.Process(server.process.pid).children(recursive=True)
        connections: list[socket.socket] = []
        if busy == "open connections":
            connections = _open(server, 50, b"GET / HTTP/1.1\r\n")
        elif busy == "uploads":
            content = _twelve_megapixels(0)
            head = HEAD + b"Content-Length: %d\r\n\r\n" % len(content)
            connections = _open(server, 5, head + content)
            connections += _open(server, 5, TRICKLE)
        seconds = server.end(number)
        assert server.process.returncode in status, server.process.returncode
        assert seconds < 6, f"it takes {seconds:.1f} seconds"
        assert "Traceback" not in server.log(), server.log()
        _, alive = psutil.wait_procs(children, 5)
        assert not alive, alive
        for connection in connections:
            connection.close()

    return run


def _second_server(folder: Path) -> None:
    """A port in use."""
    from tools.attacks.attack import check_refused, command
    from tools.attacks.page_server import tiny_detector

    port = the_server().port
    result = command("predict", f"--weights={tiny_detector()}", "--serve", f"--port={port}")
    check_refused(result, [f"--port={port}"], status=2)


def _wrong_length(folder: Path) -> None:
    """Fewer bytes than the stated length, and then the end of the stream."""
    server = the_server()
    with server.connect() as connection:
        connection.sendall(HEAD + b"Content-Length: 500\r\n\r\n" + bytes(100))
        connection.shutdown(socket.SHUT_WR)
        assert read_answer(connection).status in (0, 400)
    server.check_well()


REQUEST = b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n"
ENDS = ((signal.SIGINT, (0,)), (signal.SIGTERM, (0,)))
ATTACKS = [
    Attack(KIND, f"{SESSIONS} sessions with images of 12 megapixels", _memory_of_sessions),
    Attack(KIND, "50 images of 12 megapixels at once", _many_at_once(12, 50)),
    Attack(KIND, "50 small images at once", _many_at_once(0, 50)),
    Attack(KIND, "200 small images at once", _many_at_once(0, 200)),
    Attack(KIND, "60 uploads of 20 MiB", _full_uploads),
    Attack(KIND, "300 connections that send nothing", _held(300, b"", b"", 15)),
    Attack(KIND, "300 headers that trickle", _held(300, REQUEST, b"a", 15)),
    Attack(KIND, "900 headers that trickle", _held(900, REQUEST, b"a", 20)),
    Attack(KIND, "40 uploads that trickle", _held(40, TRICKLE, b"a", 25)),
    Attack(KIND, "a second request that trickles", _held(20, REQUEST + b"\r\nGET", b"a", 20)),
    Attack(KIND, "100 uploads that end after their headers", _aborted(0)),
    Attack(KIND, "100 uploads that end in the middle", _aborted(0.5)),
    Attack(KIND, "100 uploads that wait for no answer", _aborted(1)),
    Attack(KIND, "300 clients that read nothing", _no_reader),
    Attack(KIND, "two requests at once on one connection", _pipelined, quick=True),
    Attack(KIND, "an upload that is shorter than its stated length", _wrong_length, quick=True),
    Attack(KIND, "an image that takes seconds, next to others", _slow_with_others),
    Attack(KIND, "the processes that open images are killed", _preparers_killed),
    Attack(KIND, "a process that opens images hangs", _preparers_stopped),
    Attack(KIND, "uploads are not on disk", _no_files),
    Attack(KIND, "a port that is taken", _second_server),
    *(
        Attack(KIND, f"{number.name} with {busy}", _ended(number, status, busy))
        for number, status in ENDS
        for busy in ("nobody there", "open connections", "uploads")
    ),
]
