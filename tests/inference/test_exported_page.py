"""The page as a folder: its files, and its behaviour in a headless browser."""

import contextlib
import functools
import http.server
import json
import os
import threading
from pathlib import Path

import numpy as np
import onnx
import pytest
from PIL import Image

from ssd_jax.errors import UserError
from ssd_jax.images.resizing import resize_to_square
from ssd_jax.inference.page.exported import export_page
from ssd_jax.interop.export import Choices, export
from ssd_jax.storage.checksums import verify_checksums
from tests.helpers.browser import find_chromium, new_page
from tests.helpers.random_detector import random_trained
from tests.inference.test_detector import picture

# The folder of npm's onnxruntime-web; see docs/web.md.
RUNTIME = os.environ.get("SSD_JAX_ONNXRUNTIME_WEB", "")
FILES = ("detecting.js", "detector.json", "detector.onnx", "drawing.js", "icon.svg", "index.html")
SCRIPTS = Path(__file__).parents[2] / "ssd_jax" / "inference" / "page" / "static"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    made = tmp_path_factory.mktemp("exported")
    export_page(random_trained(), str(made / "page"), Choices(license_name="apache-2.0"))
    return made


def test_the_folder_has_the_page_and_the_detector(folder):
    page = folder / "page"
    assert {each.name for each in page.iterdir()} == {*FILES, "page.css", "page.js", "SHA256SUMS"}
    verify_checksums(page, FILES)
    told = json.loads((page / "detector.json").read_text())
    assert told["image_size"] == "64" and json.loads(told["classes"])[4]["id"] == 90
    assert told["license"] == "apache-2.0"
    inside = {each.key: each.value for each in onnx.load(page / "detector.onnx").metadata_props}
    assert inside == told
    assert (page / "detecting.js").read_text() == (SCRIPTS / "in_browser.js").read_text()
    text = (page / "index.html").read_text()
    assert "$" not in text and "python -m http.server" in text and 'value="0.4"' in text


def test_the_page_is_no_format_of_one_file(tmp_path):
    with pytest.raises(UserError, match=r"web is written by .*exported[.]export_page"):
        export("web", None, str(tmp_path / "page"))


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_):
        pass


@contextlib.contextmanager
def serving(folder):
    """The address of a folder."""
    handler = functools.partial(Quiet, directory=folder)
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.fixture(scope="module")
def tab(folder):
    """A page of the browser at the folder without onnxruntime-web."""
    find_chromium()
    with serving(folder) as address, new_page() as made:
        made.goto(f"{address}/page/")
        yield made


@pytest.mark.slow
@pytest.mark.browser
def test_the_page_names_the_source_of_its_runtime(tab):
    tab.wait_for_selector("#error:has-text('npm install --prefix=. onnxruntime-web')")


@pytest.mark.slow
@pytest.mark.browser
# Smaller, larger, of one row, and of so many pixels that they are read in several strips.
@pytest.mark.parametrize("height, width", [(200, 300), (37, 50), (1, 7), (2100, 2300)])
def test_the_browser_resizes_to_the_same_bytes(tab, folder, height, width):
    noise = np.random.default_rng(0).integers(0, 256, (height, 40, 3)).astype(np.uint8)
    pixels = np.tile(noise, (1, -(-width // 40), 1))[:, :width]
    Image.fromarray(pixels).save(folder / "image.png", compress_level=1)
    found = tab.evaluate(
        """async () => {
          const { toSquare } = await import("./detecting.js");
          const file = await (await fetch("../image.png", { cache: "no-store" })).blob();
          return [...toSquare(await createImageBitmap(file), 64)];
        }"""
    )
    wanted = resize_to_square(pixels, 64)
    np.testing.assert_array_equal(np.array(found, np.uint8).reshape(64, 64, 3), wanted)


@pytest.mark.slow
@pytest.mark.browser
@pytest.mark.skipif(not RUNTIME, reason="SSD_JAX_ONNXRUNTIME_WEB names no folder")
def test_the_browser_finds_what_the_detector_finds(tab, folder, detector, tmp_path):
    (folder / "page" / "node_modules").mkdir()
    (folder / "page" / "node_modules" / "onnxruntime-web").symlink_to(Path(RUNTIME).resolve())
    origin, elsewhere = tab.url, []
    tab.on("request", lambda request: elsewhere.append(request.url))
    tab.reload()
    image = Image.fromarray(picture(300, 200))
    image.save(tmp_path / "picture.png")
    tab.set_input_files("#file", tmp_path / "picture.png")
    tab.wait_for_selector("#caption:has-text('detected in')")
    tab.fill("#threshold", "0.01")
    with tab.expect_download() as download:
        tab.click("#save-json")
    download.value.save_as(tmp_path / "detections.json")
    saved = json.loads((tmp_path / "detections.json").read_text())
    assert saved["images"] == [{"id": 1, "file_name": "picture.png", "width": 300, "height": 200}]
    wanted = detector(image).to_coco(1)
    assert len(saved["annotations"]) == len(wanted) > 10
    for ours, theirs in zip(wanted, saved["annotations"], strict=True):
        assert theirs["category_id"] == ours["category_id"]
        assert theirs["score"] == pytest.approx(ours["score"], abs=1e-4)
        np.testing.assert_allclose(theirs["bbox"], ours["bbox"], atol=0.1)  # pixels

    tab.click("#camera")  # of which each frame is detected
    tab.wait_for_selector("#live:has-text('objects, ')")
    boxes = "document.getElementById('overlay').getContext('2d').getImageData(0, 0, 300, 300).data"
    assert tab.evaluate(f"{boxes}.some((value) => value > 0)")
    tab.click("#take")
    tab.wait_for_selector("#caption:has-text('photo.jpg')")
    assert not [url for url in elsewhere if not url.startswith((origin, "blob:", "data:"))]
    assert tab.inner_text("#live") == "" and not tab.is_visible("#camera-dialog")
