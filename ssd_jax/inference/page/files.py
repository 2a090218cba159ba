"""The files of the page, for a server or for `ssd-jax export --to=web`."""

import html
import string
from importlib import resources


def page_files(
    detecting: str, score_threshold: float, max_bytes: int, notice: str = ""
) -> dict[str, str]:
    """The texts of the files by name.

    Args:
      detecting: the script for detection, `on_server.js` or `in_browser.js`.
      score_threshold: the initial value of the slider.
      max_bytes: the largest size of an image.
      notice: the message of the page if scripts do not run.
    """
    page = string.Template(_text("index.html")).substitute(
        score_threshold=html.escape(str(score_threshold)),
        max_bytes=max_bytes,
        notice=html.escape(notice),
        hidden="" if notice else " hidden",
    )
    names = ("page.css", "page.js", "drawing.js", "icon.svg")
    files = {name: _text(name) for name in names}
    return {"index.html": page, "detecting.js": _text(detecting), **files}


def _text(name: str) -> str:
    return resources.files("ssd_jax.inference.page").joinpath("static", name).read_text("utf-8")
