"""A page in the browser to try a detector on: drop an image, move the score threshold."""

import logging
import os
from typing import Any

from PIL import Image

from ssd_jax.errors import UserError, missing_package
from ssd_jax.images.opening import open_image
from ssd_jax.inference.detector import Detections, Detector

logger = logging.getLogger(__name__)

MAX_FILE_SIZE = "20mb"
MAX_PIXELS = 50_000_000
COLUMNS = ["object", "score", "x", "y", "width", "height"]
KEPT_SECONDS = 3600  # how long uploaded files are kept


def serve(detector: Detector, score_threshold: float, host: str, port: int) -> None:
    """Serves the page until the process is stopped.

    Args:
      detector: the detector.
      score_threshold: where the slider begins.
      host: the address to listen on; 127.0.0.1 is reached from this machine alone.
      port: and the port.

    Raises:
      UserError: Gradio is not installed, or the port is taken.
    """
    page, options = build_page(detector, score_threshold)
    logger.info("the page is at http://%s:%d until Ctrl-C ends it", host, port)
    try:
        page.launch(server_name=host, server_port=port, **options)
    except OSError as error:
        raise UserError(
            f"--port={port} on --host={host} cannot be used, it may be taken: name another"
        ) from error


def build_page(detector: Detector, score_threshold: float) -> tuple[Any, dict[str, Any]]:
    """The page, a `gradio.Blocks`, and how it is to be launched.

    Raises:
      UserError: Gradio is not installed.
    """
    gradio = _import_gradio()

    def detect(file: str | None) -> Detections | None:
        if file is None:
            return None
        try:
            image = open_image(file, name="the image", max_pixels=MAX_PIXELS)
            return detector(image)
        except UserError as error:
            raise gradio.Error(str(error), print_exception=False) from error

    with gradio.Blocks(
        title="ssd_jax", fill_width=True, delete_cache=(KEPT_SECONDS, KEPT_SECONDS)
    ) as page:
        found = gradio.State(time_to_live=KEPT_SECONDS)
        file, threshold, rows, drawn = _lay_out(gradio, score_threshold)
        shown = {"fn": show, "inputs": [found, threshold], "outputs": [drawn, rows]}
        # The network runs once an image; the threshold only selects.
        detected = file.change(detect, file, found, api_visibility="private")
        detected.then(**shown, api_visibility="private")
        threshold.change(**shown, show_progress="hidden", api_visibility="private")
    return page, _launch_options(gradio)


def show(
    detections: Detections | None, threshold: float
) -> tuple[Image.Image | None, list[list[str | int]]]:
    """The image with the detections whose score reaches a threshold, and their table."""
    if detections is None:
        return None, []
    shown = detections.select(detections.scores >= threshold)
    return shown.draw(), table(shown)


def table(detections: Detections) -> list[list[str | int]]:
    """A row for each object, of `COLUMNS`."""
    return [
        [name, f"{found['score']:.2f}", *map(round, found["bbox"])]
        for name, found in zip(detections.names, detections.to_coco(), strict=True)
    ]


def _import_gradio() -> Any:
    # It would ask its makers' server for newer versions, and tell it of this start.
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
    try:
        import gradio
    except ImportError as error:
        raise missing_package("gradio") from error
    return gradio


def _lay_out(gradio: Any, score_threshold: float) -> tuple[Any, Any, Any, Any]:
    """The file, the threshold and the table at the left; the image with boxes at the right."""
    with gradio.Row():
        with gradio.Column(scale=1):
            file = gradio.File(label="Image", file_types=["image"], height=160)
            threshold = gradio.Slider(
                0.01, 1.0, score_threshold, step=0.01, label="Score threshold"
            )
            rows = gradio.Dataframe(
                headers=COLUMNS,
                label="Objects, in pixels",
                interactive=False,
                elem_id="objects",
            )
        with gradio.Column(scale=2):
            drawn = gradio.Image(
                label="Detections",
                interactive=False,
                format="png",
                buttons=["download", "fullscreen"],
                elem_id="drawn",
            )
    return file, threshold, rows, drawn


def _launch_options(gradio: Any) -> dict[str, Any]:
    # Fonts of the system, for those of the default theme come from Google.
    theme = gradio.themes.Default(
        font=["system-ui", "sans-serif"], font_mono=["ui-monospace", "monospace"]
    )
    return {
        "theme": theme,
        # Small images are enlarged, large ones fit into the window.
        "css": "#drawn img { width: 100%; height: 85vh; object-fit: contain }",
        "quiet": True,
        "max_file_size": MAX_FILE_SIZE,
        "share": False,
        "footer_links": [],
        "ssr_mode": False,
    }
