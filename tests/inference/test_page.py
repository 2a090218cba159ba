"""The page: its endpoint, and its behaviour in a headless browser."""

import asyncio
import base64
import io
import json
import signal
import socket
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import psutil
import pytest
from PIL import Image

from ssd_jax.errors import UserError
from ssd_jax.images.drawing import class_color
from ssd_jax.inference.detector import Prepared
from ssd_jax.inference.page import uploads
from ssd_jax.inference.page.guard import AllowedNames, check_auth
from ssd_jax.inference.page.preparers import Preparer
from ssd_jax.inference.page.server import serve
from tests.helpers.browser import find_chromium, new_page
from tests.helpers.page_server import page_server
from tests.images.test_opening import png_header
from tests.inference.test_detector import picture
from tools.attacks.page_server import PageServer

PICTURE = Image.fromarray(picture(300, 200))


class Counting:
    """A detector that counts how often it is used."""

    def __init__(self, detector):
        self.detector = detector
        self.side = detector.side
        self.count = 0

    def stream(self, images, batch_size):
        self.count += 1
        return self.detector.stream(images, batch_size)


@pytest.fixture(scope="module")
def counting(detector):
    return Counting(detector)


@pytest.fixture(scope="module")
def threshold(detector):
    """The threshold of the page in these tests: eight objects are above it."""
    return round(float(detector(PICTURE).scores[8]), 2)


@pytest.fixture(scope="module")
def server(counting, threshold):
    with page_server(counting, score_threshold=threshold) as started:
        yield started


def encoded(image=PICTURE, kind="PNG"):
    file = io.BytesIO()
    image.save(file, kind)
    return file.getvalue()


def form(content, name="picture.png", extra=b""):
    """A form with a file, and its type."""
    head = f'Content-Disposition: form-data; name="image"; filename="{name}"\r\n\r\n'
    body = b"--x\r\n" + head.encode() + content + b"\r\n" + extra + b"--x--\r\n"
    return body, "multipart/form-data; boundary=x"


def test_the_endpoint_answers_what_the_detector_finds(server, detector):
    found = detector(PICTURE)
    status, answer = server.detect(encoded())
    assert status == 200
    assert answer["annotations"] == json.loads(json.dumps(found.to_coco(1)))
    assert answer["images"] == [{"id": 1, "file_name": "", "width": 300, "height": 200}]
    assert [each["id"] for each in answer["categories"]] == [1, 3, 7, 8, 90]
    assert answer["errors"] == []
    body, kind = form(encoded(), "dark.png")
    status, of_form = server.detect(body, content_type=kind)
    assert status == 200 and of_form["annotations"] == answer["annotations"]
    assert of_form["images"][0]["file_name"] == "dark.png"


def test_images_are_upright_and_large_ones_the_same(server, detector):
    image = Image.fromarray(picture(40, 700))  # more than one strip
    exif = Image.Exif()
    exif[0x0112] = 6
    file = io.BytesIO()
    image.transpose(Image.Transpose.ROTATE_90).save(file, "PNG", exif=exif)
    status, answer = server.detect(file.getvalue())
    assert status == 200
    assert answer["annotations"] == json.loads(json.dumps(detector(image).to_coco(1)))


@pytest.mark.parametrize(
    "content, headers, status, error",
    [
        (b"this is no picture", {}, 422, "the image cannot be read: it is no image"),
        (png_header(8_000, 8_000), {}, 422, "has 8000 × 8000 pixels, more than 50,000,000"),
        (bytes(uploads.MAX_BYTES + 1), {}, 413, "the limit is 20,971,520"),
        (b"", {}, 400, "the request is empty"),
        (b"x", {"content_type": "text/plain"}, 415, "cannot have the type 'text/plain'"),
        (b"x", {"content_type": "multipart/form-data"}, 400, "Missing boundary"),
        (b"x", {"content_type": "multipart/form-data; boundary=x"}, 400, "the form"),
        (b"x", {"origin": "http://evil.example"}, 403, "no uploads from other pages"),
        (b"x", {"origin": "null"}, 403, "no uploads from other pages ('null')"),
        (b"x", {"sec_fetch_site": "cross-site"}, 403, "no uploads from other pages"),
        (b"x", {"host": "evil.example"}, 403, "does not accept the host 'evil.example'"),
    ],
)
def test_wrong_requests_are_rejected_with_one_line(
    server, counting, content, headers, status, error
):
    count = counting.count
    given, answer = server.detect(content, **headers)
    assert given == status and error in answer["error"] and "\n" not in answer["error"]
    assert counting.count == count


def test_a_form_has_one_file_and_nothing_else(server):
    other = b'--x\r\nContent-Disposition: form-data; name="b"; filename="b"\r\n\r\nb\r\n'
    body, kind = form(encoded(), extra=other)
    assert server.detect(body, content_type=kind)[0] == 400
    field = other.replace(b'; filename="b"', b"")
    body, kind = form(encoded(), extra=field)
    status, answer = server.detect(body, content_type=kind)
    assert status == 400 and "it has a field that is not a file" in answer["error"]
    body, kind = form(b"")
    status, answer = server.detect(body, content_type=kind)
    assert status == 400 and "form is empty: send the bytes of an image" in answer["error"]


def test_answers_have_headers_that_protect_and_other_addresses_are_unknown(server):
    for path, kind in (
        ("/", "text/html"),
        ("/page.js", "text/javascript"),
        ("/drawing.js", "text/javascript"),
        ("/page.css", "text/css"),
        ("/icon.svg", "image/svg+xml"),
    ):
        status, headers, body = server.request("GET", path)
        assert status == 200 and headers["content-type"].startswith(kind) and body
        assert "default-src 'none'" in headers["content-security-policy"]
        assert headers["x-content-type-options"] == "nosniff"
        assert "access-control-allow-origin" not in headers and "server" not in headers
        assert server.request("HEAD", path)[0] == 200
    for path in ("/../server.py", "/static/page.js", "/page.js/", "/%2e%2e/app.py", "/detect/"):
        status, headers, body = server.request("GET", path)
        assert status == 404 and json.loads(body) == {"error": "Not Found"}
        assert "content-security-policy" in headers
    assert server.request("GET", "/detect")[1]["allow"] == "POST"
    assert server.request("OPTIONS", "/detect")[0] == server.request("PUT", "/")[0] == 405


def test_the_page_continues_after_a_failure_is_reported(server, counting, monkeypatch):
    def fail(images, batch_size):
        raise RuntimeError("the device is gone")

    with monkeypatch.context() as patch:
        patch.setattr(counting, "stream", fail)
        status, answer = server.detect(encoded())
    assert status == 500 and "log has the error" in answer["error"]
    assert "device" not in answer["error"]
    assert server.detect(encoded())[0] == 200


def test_a_password_is_required(counting):
    def basic(text):
        return "Basic " + base64.b64encode(text.encode()).decode()

    with page_server(counting, auth="ann:sécret") as server:
        for path in ("/", "/page.js", "/nowhere"):
            status, headers, _ = server.request("GET", path)
            assert status == 401 and headers["www-authenticate"].startswith("Basic ")
        for wrong in (basic("ann:"), basic("ann:secret"), basic(""), "Basic ?", "Bearer x", "x"):
            assert server.request("GET", "/", authorization=wrong)[0] == 401
        assert server.request("GET", "/", authorization=basic("ann:sécret"))[0] == 200
        assert server.detect(encoded())[0] == 401
        assert server.detect(encoded(), authorization=basic("ann:sécret"))[0] == 200
        assert server.request("GET", "/", host="evil.example")[0] == 403  # before the password
    for auth in (":", "ann", "ann:", ":secret", "ann:a\nb"):
        with pytest.raises(UserError, match="USER:PASSWORD"):
            check_auth(auth)


def test_requests_for_other_host_names_are_rejected():
    local = AllowedNames("127.0.0.1", "127.0.0.1", ["Pictures.Example"])
    assert {"127.0.0.1", "localhost", "::1", "pictures.example"} <= {
        name
        for name in ("127.0.0.1", "localhost", "::1", "pictures.example", "evil.example")
        if name in local
    }
    for name in ("evil.example", "192.168.1.2", "0.0.0.0", "localhost.evil.example", ""):
        assert name not in local
    everywhere = AllowedNames("0.0.0.0", "0.0.0.0", [])
    for name in ("192.168.1.2", "::1", "fe80::1", "localhost", socket.gethostname().lower()):
        assert name in everywhere
    for name in ("evil.example", "192.168.1.2.evil.example", "1.2.3", "300.1.1.1"):
        assert name not in everywhere
    for name in ("http://a", "a/b", "a:80", "", "*", "a b"):
        with pytest.raises(UserError, match="--allowed_hosts names"):
            AllowedNames("127.0.0.1", "127.0.0.1", [name])


def test_an_origin_is_that_of_the_page_or_of_an_allowed_host(counting):
    with page_server(counting, allowed_hosts=["pictures.example"]) as server:
        here = f"127.0.0.1:{server.port}"
        for host, origin, status in (
            (here, f"http://{here}", 200),
            ("localhost:9000", "http://localhost:9000", 200),  # a port that is passed on
            ("pictures.example", "https://pictures.example", 200),
            ("pictures.example", "https://pictures.example:443", 200),
            (here, "https://pictures.example", 200),  # a proxy that asks by the address
            (here, "http://localhost:3000", 403),
            (here, "http://127.0.0.1:3000", 403),
            (here, "ftp://pictures.example", 403),
            (here, f"http://evil.example/{here}", 403),
        ):
            assert server.detect(encoded(), host=host, origin=origin)[0] == status, origin


def test_a_port_that_is_taken_is_named(detector):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(UserError, match=f"--port={port} on --host=127.0.0.1 cannot be used"):
            serve(detector, 0.5, "127.0.0.1", port)
    for host in ("", "no.such.host.invalid"):
        with pytest.raises(UserError, match="--host"):
            serve(detector, 0.5, host, 0)
    with pytest.raises(UserError, match="--score_threshold is 2"):
        serve(detector, 2, "127.0.0.1", 0)


def test_without_starlette_the_install_command_is_shown(detector, monkeypatch):
    monkeypatch.setitem(sys.modules, "starlette", None)
    with pytest.raises(UserError, match=r"pip install -e '\.\[page\]'"):
        serve(detector, 0.5, "127.0.0.1", 0)


@pytest.mark.slow
def test_the_package_and_its_commands_import_no_server():
    code = (
        "import sys, ssd_jax; ssd_jax.Detector; import ssd_jax.cli.predict; "
        "import ssd_jax.inference.predict, ssd_jax.inference.page.server; "
        "print([name for name in ('starlette', 'uvicorn', 'anyio') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout == "[]\n", done.stderr


@pytest.fixture(scope="module")
def page(server):
    """The page in Chromium, and its requests to other hosts."""
    find_chromium()
    with new_page(viewport={"width": 1280, "height": 800}, accept_downloads=True) as tab:
        elsewhere = []
        tab.on(
            "request",
            lambda request: (
                request.url.startswith(("data:", "blob:", server.url))
                or elsewhere.append(request.url)
            ),
        )
        tab.on("pageerror", lambda error: elsewhere.append(str(error)))
        tab.goto(server.url)
        yield tab, elsewhere


def move_threshold(tab, value):
    tab.evaluate(
        """value => {
            document.querySelector("#threshold").value = value;
            document.querySelector("#threshold").dispatchEvent(new Event("input"));
        }""",
        value,
    )


def wait_for_rows(tab, count):
    tab.wait_for_function(
        "count => document.querySelectorAll('#rows tr').length === count", arg=count, timeout=10_000
    )


def save(tab, button, path):
    with tab.expect_download() as download:
        tab.click(button)
    download.value.save_as(path)
    return download.value.suggested_filename


@pytest.mark.slow
@pytest.mark.browser
def test_an_image_is_detected_once_and_the_browser_filters_detections(
    page, counting, detector, threshold, tmp_path
):
    tab, elsewhere = page
    PICTURE.save(tmp_path / "picture.png")
    found = detector(PICTURE)
    count = counting.count
    tab.set_input_files("#file", tmp_path / "picture.png")
    at_first = int((found.scores >= threshold).sum())
    assert 4 < at_first < 13
    wait_for_rows(tab, at_first)
    left, top, right, bottom = found.boxes[0]
    sides = [f"{side:.0f}" for side in (left, top, right - left, bottom - top)]
    assert tab.inner_text("#rows tr").split() == [found.names[0], f"{found.scores[0]:.2f}", *sides]
    assert f"{at_first} objects" in tab.get_attribute("#canvas", "aria-label")

    higher = round(float(found.scores[2]), 2)
    move_threshold(tab, higher)
    fewer = int((found.scores >= higher).sum())
    assert fewer < at_first
    wait_for_rows(tab, fewer)
    move_threshold(tab, threshold)
    name = found.names[0]
    tab.click(f"#classes button:has-text('{name}')")
    of_class = [each == name for each in found.names[:at_first]]
    wait_for_rows(tab, at_first - sum(of_class))

    assert save(tab, "#save-json", tmp_path / "detections.json") == "detections.json"
    saved = json.loads((tmp_path / "detections.json").read_text())
    wanted = [each for each, is_it in zip(found.to_coco(1), of_class, strict=False) if not is_it]
    assert saved["annotations"] == json.loads(json.dumps(wanted))
    assert saved["images"][0]["file_name"] == "picture.png"
    tab.click("#all-classes")
    wait_for_rows(tab, at_first)

    assert save(tab, "#save-image", tmp_path / "drawn.png") == "picture_detections.png"
    drawn = np.asarray(Image.open(tmp_path / "drawn.png").convert("RGB"))
    assert drawn.shape[0] >= 320 and drawn.shape[1] == 480  # enlarged
    left, _, right, bottom = np.minimum(found.boxes[0] * 1.6, (480, 320, 480, 320))
    line = drawn[int(bottom) - 4 : int(bottom) + 4, int((left + right) / 2)].astype(int)
    assert np.abs(line - class_color(int(found.labels[0]))).sum(axis=1).min() < 12
    # The names of very many would cover the objects: a legend stands below.
    move_threshold(tab, 0.01)
    save(tab, "#save-image", tmp_path / "many.png")
    move_threshold(tab, threshold)
    below = np.asarray(Image.open(tmp_path / "many.png").convert("RGB"))[320:].astype(int)
    assert np.abs(below - class_color(int(found.labels[0]))).sum(axis=2).min() < 12
    assert counting.count == count + 1
    assert not elsewhere  # no fonts, no scripts, no reports, no errors


@pytest.mark.slow
@pytest.mark.browser
@pytest.mark.parametrize(
    "name, content, complaint",
    [
        ("text.png", b"this is no picture", "text.png: the image cannot be read: it is no image"),
        ("bomb.png", png_header(8_000, 8_000), "has 8000 × 8000 pixels, more than 50,000,000"),
        ("large.png", bytes(21_000_000), "large.png has 20.0 MiB; the limit is 20 MiB"),
    ],
)
def test_bad_uploads_are_refused_in_the_page(page, tmp_path, name, content, complaint):
    tab, _ = page
    (tmp_path / name).write_bytes(content)
    tab.set_input_files("#file", tmp_path / name)
    tab.wait_for_selector(f"#error:has-text('{complaint}')", timeout=10_000)
    tab.click("#error button")
    assert not tab.is_visible("#error")


@pytest.mark.slow
@pytest.mark.browser
def test_the_page_is_used_by_the_keyboard(page, tmp_path):
    tab, _ = page
    PICTURE.save(tmp_path / "picture.png")
    tab.set_input_files("#file", tmp_path / "picture.png")
    tab.wait_for_selector("#rows tr")
    tab.focus("#threshold")
    before = tab.input_value("#threshold")
    tab.keyboard.press("ArrowLeft")
    assert float(tab.input_value("#threshold")) == pytest.approx(float(before) - 0.01)
    tab.focus("#rows tr")
    tab.keyboard.press("ArrowDown")
    assert tab.evaluate("document.activeElement.rowIndex") == 2
    for button in tab.locator("button").all():
        assert button.inner_text().strip() or button.get_attribute("aria-label")


@pytest.mark.slow
@pytest.mark.browser
def test_the_page_retries_a_busy_server(page, counting, tmp_path):
    tab, _ = page
    asked = []

    def busy_at_first(route):
        asked.append(route.request.url)
        if len(asked) == 1:
            route.fulfill(status=503, headers={"Retry-After": "0"}, body='{"error": "busy"}')
        else:
            route.continue_()

    PICTURE.save(tmp_path / "again.png")
    tab.route("**/detect", busy_at_first)
    count = counting.count
    tab.set_input_files("#file", tmp_path / "again.png")
    tab.wait_for_selector("#caption:has-text('again.png')")
    tab.unroute("**/detect")
    assert len(asked) == 2 and counting.count == count + 1
    assert not tab.is_visible("#error")


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_command_serves_until_a_signal(number):
    server = PageServer("--allowed_hosts=pictures.example", env={"SSD_JAX_AUTH": "ann:secret"})
    try:
        assert server.detect(encoded()).status == 401
        given = {"authorization": "Basic " + base64.b64encode(b"ann:secret").decode()}
        answer = server.detect(encoded(), host="pictures.example", **given)
        assert answer.status == 200 and json.loads(answer.body)["images"][0]["width"] == 300
        children = psutil.Process(server.process.pid).children()
        server.end(number)
        assert server.process.returncode == 0
        assert server.log().splitlines()[-1] == "the page has ended"
        assert not psutil.wait_procs(children, timeout=5)[1]
    finally:
        server.end()


def test_a_decoder_that_ended_is_reported_or_restarted():
    preparer = Preparer(64)

    async def end_at_work(number: signal.Signals) -> Prepared:
        await preparer.start()
        assert preparer._process is not None
        preparer._process.send_signal(number)
        return await preparer.prepare(encoded())

    async def end_twice() -> None:
        with pytest.raises(UserError, match="the process that decodes it was ended by SIGSEGV"):
            await end_at_work(signal.SIGSEGV)
        # Somebody else's signal, which may have come before the image.
        assert (await end_at_work(signal.SIGKILL)).size == (200, 300)
        await preparer.end()

    with ThreadPoolExecutor(1) as pool:  # Playwright leaves a loop running in this thread
        pool.submit(asyncio.run, end_twice()).result()
