"""Adds README, CONTRIBUTING and CHANGELOG to the site, and keeps its links inside the site.

A hook of MkDocs, named in `mkdocs.yml`.
"""

import posixpath
import re
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).parents[1]
PAGES = {
    "README.md": "index.md",
    "CONTRIBUTING.md": "contributing.md",
    "CHANGELOG.md": "changelog.md",
}
LINK = re.compile(r"\[([^\]]*)\]\(([^)#\s]+)(#[^)\s]*)?\)")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Adds each file of `PAGES` to the pages of `docs`."""
    for file, page in PAGES.items():
        content = links_from_docs((ROOT / file).read_text())
        files.append(File.generated(config, page, content=content))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Replaces links to files of the project, which the site does not have, by their text."""
    folder = posixpath.dirname(page.file.src_uri)
    return LINK.sub(lambda link: inside(link, folder, files), markdown)


def links_from_docs(markdown: str) -> str:
    """A file of the project's root, with links relative to `docs`."""
    return LINK.sub(lambda link: f"[{link[1]}]({from_docs(link[2])}{link[3] or ''})", markdown)


def from_docs(target: str) -> str:
    """A path from the project's root as a path from `docs`."""
    if "://" in target:
        return target
    return target.removeprefix("docs/") if target.startswith("docs/") else f"../{target}"


def inside(link: re.Match, folder: str, files: Files) -> str:
    """The link with the title of its page, or its text if the site does not have the file.

    Args:
      link: of a page.
      folder: that of the page, in `docs`.
      files: all pages.
    """
    text, target, anchor = link[1], link[2], link[3] or ""
    if "://" in target:
        return link[0]
    target = posixpath.normpath(posixpath.join(folder, target))
    if target.startswith("../"):
        target = PAGES.get(target.removeprefix("../"), "")
    if not target:
        return text
    named = text.strip("`").removeprefix("docs/")
    shown = title_of(target, files) if named == target else text
    return f"[{shown}]({posixpath.relpath(target, folder or '.')}{anchor})"


def title_of(page: str, files: Files) -> str:
    """The first heading of a page."""
    file = files.get_file_from_path(page)
    found = re.search(r"^# (.+)$", file.content_string if file else "", flags=re.MULTILINE)
    return found[1] if found else page
