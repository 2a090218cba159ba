"""Draws the images of the documentation with a trained detector, and takes its screenshots.

    python -m tools.doc_images --weights=my_detector --data=path/to/BCCD --output=docs/images

Use a detector of blood cells and the data set BCCD, in Pascal VOC's layout with the list `test`.
Needs Chromium and the extras `evaluate` and `page`. `--report` shows an existing report instead of
a new one.
"""

import argparse
import contextlib
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path

from PIL import Image
from playwright.sync_api import Page, sync_playwright

SHOWN = ("BloodImage_00007", "BloodImage_00011")  # images that the detector was not trained on
THRESHOLD = 0.4
PORT = 7861


def main() -> None:
    """Writes `detected.jpg`, `boxes.png`, `report.jpg` and `page.png`."""
    parser = argparse.ArgumentParser(description="Draw the images of the documentation.")
    parser.add_argument("--weights", required=True)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--report", type=Path, help="the folder of an existing report")
    options = parser.parse_args()
    options.output.mkdir(parents=True, exist_ok=True)
    images = [options.data / "JPEGImages" / f"{name}.jpg" for name in SHOWN]
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        draw_detections(options.weights, images, folder, options.output / "detected.jpg")
        source = f"voc_xml:{options.data}:trainval"
        boxes = options.output / "boxes.png"
        command("fit-boxes", "--config=ssd_small", f"--source={source}", f"--output={boxes}")
        report = options.report or folder / "report"
        if options.report is None:
            source = f"voc_xml:{options.data}:test"
            given = [f"--weights={options.weights}", f"--source={source}", f"--report={report}"]
            command("evaluate", *given)
        with new_page(1100, 1350) as page:
            page.goto((report.resolve() / "index.html").as_uri())
            page.screenshot(path=options.output / "report.jpg", quality=85)
        take_served_page(options.weights, images[0], options.output / "page.png")


def command(name: str, *arguments: str) -> None:
    """Runs a command of `ssd-jax` and waits for its end."""
    subprocess.run([sys.executable, "-m", "ssd_jax", name, *arguments], check=True)


def draw_detections(weights: str, images: list[Path], folder: Path, output: Path) -> None:
    """Writes the images with their detections side by side."""
    given = [f"--weights={weights}", f"--output={folder}", f"--score_threshold={THRESHOLD}"]
    command("predict", *given, *map(str, images))
    drawn = [Image.open(folder / "annotated" / image.name) for image in images]
    gap = 8
    width = sum(image.width for image in drawn) + gap * (len(drawn) - 1)
    joined = Image.new("RGB", (width, max(image.height for image in drawn)), "white")
    left = 0
    for image in drawn:
        joined.paste(image, (left, 0))
        left += image.width + gap
    joined.save(output, quality=88)


@contextlib.contextmanager
def new_page(width: int, height: int):
    """A page of Chromium of this size in pixels."""
    program = shutil.which("chromium") or shutil.which("google-chrome")
    with sync_playwright() as browsers:
        browser = browsers.chromium.launch(executable_path=program, args=["--no-sandbox"])
        yield browser.new_page(viewport={"width": width, "height": height})
        browser.close()


def take_served_page(weights: str, image: Path, output: Path) -> None:
    """A screenshot of `predict --serve` with an image."""
    given = [f"--weights={weights}", "--serve", f"--port={PORT}", f"--score_threshold={THRESHOLD}"]
    server = subprocess.Popen([sys.executable, "-m", "ssd_jax", "predict", *given])
    try:
        with new_page(1200, 790) as page:
            wait_for(f"http://127.0.0.1:{PORT}", server)
            show(page, image)
            page.screenshot(path=output)
    finally:
        server.terminate()
        server.wait()


def wait_for(url: str, server: subprocess.Popen) -> None:
    """Waits until the server answers."""
    while server.poll() is None:
        time.sleep(0.2)
        with contextlib.suppress(OSError), urllib.request.urlopen(url, timeout=10):
            return
    raise SystemExit(f"the server of the page ended with status {server.returncode}")


def show(page: Page, image: Path) -> None:
    """Gives the page an image, and waits for its detections."""
    page.goto(f"http://127.0.0.1:{PORT}")
    page.set_input_files("#file", image)
    page.wait_for_selector("#rows tr", timeout=120_000)


if __name__ == "__main__":
    main()
