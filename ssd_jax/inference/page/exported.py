"""Exports the page as a folder for any web server: the browser detects."""

from ssd_jax.images.limits import MAX_BYTES
from ssd_jax.inference.page.files import page_files
from ssd_jax.interop.export import DEFAULT, PAGE, Choices, check_export, write_for_engines
from ssd_jax.interop.trained import Trained
from ssd_jax.storage.checksums import CHECKSUMS_FILE, write_checksums
from ssd_jax.storage.copies import sending
from ssd_jax.storage.files import AnyPath, write_json, write_text
from ssd_jax.storage.outputs import WEB_MARK, check_output_folder
from ssd_jax.storage.replacing import replacing_files

SCORE_THRESHOLD = 0.4  # the initial value of the slider
NOTICE = (
    "The scripts of this page do not run: it was opened as a file, or scripts are off. Run "
    "`python -m http.server --bind 127.0.0.1` in its folder, and open http://127.0.0.1:8000/."
)


def export_page(trained: Trained, output: AnyPath, choices: Choices = DEFAULT) -> None:
    """Writes `index.html` with its scripts, `detector.onnx`, `detector.json`, and checksums.

    The page needs onnxruntime-web, which npm installs: see docs/web.md.

    Args:
      trained: the detector.
      output: the folder to write.
      choices: the options of its ONNX file.

    Raises:
      UserError: see `export`.
    """
    check_export(PAGE, choices)
    check_output_folder(output, WEB_MARK)
    with sending(output) as folder, replacing_files(folder, last=CHECKSUMS_FILE) as unfinished:
        write_for_engines("onnx", trained, unfinished, choices)
        (unfinished / "network.onnx").unlink()
        from ssd_jax.interop.onnx_detector import (
            metadata,
        )  # its package is installed

        write_json(unfinished / "detector.json", metadata(trained, choices.license_name))
        for name, text in page_files("in_browser.js", SCORE_THRESHOLD, MAX_BYTES, NOTICE).items():
            write_text(unfinished / name, text)
        write_checksums(unfinished, [file.name for file in unfinished.iterdir()], folder)
