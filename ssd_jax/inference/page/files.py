"""The files of the page, which a server gives or `ssd-jax export --to=web` writes."""

import html
import string
from importlib import resources


def page_files(
    detecting: str, score_threshold: float, max_bytes: int, notice: str = ""
) -> dict[str, str]:
    """Texts by the names under which the page loads them.

    Args:
      detecting: the script by which the page detects, `on_server.js` or `in_browser.js`.
      score_threshold: where the slider begins.
      max_bytes: of an image.
      notice: what a page says whose scripts do not run.
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
