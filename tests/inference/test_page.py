"""The page, in a browser without a window."""

import os
import socket
import sys

import numpy as np
import pytest
from PIL import Image

from ssd_jax.errors import UserError
from ssd_jax.inference import page as web_page
from tests.helpers.browser import find_chromium, new_page
from tests.helpers.commands import free_port
from tests.images.test_opening import png_header
from tests.inference.test_detector import picture

pytestmark = pytest.mark.slow

PICTURE = Image.fromarray(picture(300, 200))


class Counting:
    """A detector that counts how often it is used."""

    def __init__(self, detector):
        self.detector = detector
        self.count = 0

    def __call__(self, given):
        self.count += 1
        return self.detector(given)


@pytest.fixture(scope="module")
def page(detector):
    """The detector, and a page of it in Chromium."""
    pytest.importorskip("gradio")
    find_chromium()
    counting = Counting(detector)
    # Where the page begins: with the best handful of objects.
    threshold = round(float(detector(PICTURE).scores[8]), 2)
    blocks, options = web_page.build_page(counting, threshold)
    port = free_port()
    blocks.launch(server_port=port, prevent_thread_lock=True, **options)
    with new_page(viewport={"width": 1280, "height": 800}) as tab:
        elsewhere = []
        tab.on(
            "request",
            lambda request: (
                request.url.startswith(("data:", "blob:", f"http://127.0.0.1:{port}/"))
                or elsewhere.append(request.url)
            ),
        )
        tab.goto(f"http://127.0.0.1:{port}/")
        tab.wait_for_selector("text=Score threshold")
        yield counting, threshold, tab, elsewhere
    blocks.close()


def upload(tab, path):
    if tab.locator("button[aria-label='Clear']").count():
        tab.click("button[aria-label='Clear']")
    tab.set_input_files("input[type=file]", path)


def wait_for_rows(tab, count):
    """Waits until the table has so many rows, by the scores in it."""
    tab.wait_for_function(
        r"""count => count ==
            [...document.querySelector('#objects').innerText.matchAll(/0\.\d\d/g)].length""",
        arg=count,
        timeout=10_000,
    )


@pytest.mark.browser
def test_a_picture_is_detected_once_and_the_threshold_chooses(page, tmp_path):
    detector, threshold, tab, elsewhere = page
    PICTURE.save(tmp_path / "picture.png")
    found = detector.detector(tmp_path / "picture.png")
    upload(tab, tmp_path / "picture.png")
    tab.wait_for_selector("#drawn img")
    count = int((found.scores >= threshold).sum())
    assert 4 < count < 13
    wait_for_rows(tab, count)
    left, top, right, bottom = found.boxes[0]
    sides = [round(side) for side in (left, top, right - left, bottom - top)]
    first = (found.names[0], f"{found.scores[0]:.2f}", *sides)
    assert " ".join(map(str, first)) in " ".join(tab.inner_text("#objects").split())
    address = tab.get_attribute("#drawn img", "src")
    body = tab.request.get(address).body()
    (tmp_path / "drawn.png").write_bytes(body)
    drawn = found.select(found.scores >= threshold).draw()
    np.testing.assert_array_equal(Image.open(tmp_path / "drawn.png").convert("RGB"), drawn)

    higher = round(float(found.scores[2]), 2)
    tab.fill("input[type=number]", str(higher))
    tab.keyboard.press("Enter")
    assert (found.scores >= higher).sum() < count
    wait_for_rows(tab, int((found.scores >= higher).sum()))
    assert tab.get_attribute("#drawn img", "src") != address
    assert detector.count == 1
    assert not elsewhere  # no fonts, no scripts, no reports


@pytest.mark.parametrize(
    "name, content, complaint",
    [
        ("text.png", b"this is no picture", "the image cannot be read: it is no image"),
        ("bomb.png", png_header(8_000, 8_000), "has 8000 × 8000 pixels, more than 50,000,000"),
        ("large.png", bytes(21_000_000), "File(s) exceed the maximum allowed size of 20.0 Mb"),
    ],
)
@pytest.mark.browser
def test_bad_uploads_are_refused(page, tmp_path, name, content, complaint):
    detector, _, tab, _ = page
    count = detector.count
    (tmp_path / name).write_bytes(content)
    upload(tab, tmp_path / name)
    tab.wait_for_selector(f"text={complaint}", timeout=10_000)
    assert detector.count == count
    tab.reload()
    tab.wait_for_selector("text=Score threshold")


def test_without_gradio_it_says_what_to_install(detector, monkeypatch):
    monkeypatch.setitem(sys.modules, "gradio", None)
    with pytest.raises(UserError, match=r"pip install 'ssd_jax\[page\]'"):
        web_page.build_page(detector, 0.5)
    assert os.environ["GRADIO_ANALYTICS_ENABLED"] == "False"


def test_a_port_that_is_taken_is_named(detector):
    pytest.importorskip("gradio")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(UserError, match=f"--port={port} on --host=127.0.0.1 cannot be used"):
            web_page.serve(detector, 0.5, "127.0.0.1", port)
