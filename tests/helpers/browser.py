"""Pages in Chromium without a window."""

import contextlib
import shutil

import pytest

# A camera of a moving picture, which may be used without asking.
CAMERA = ["--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream"]
ARGUMENTS = ["--no-sandbox", *CAMERA]


def find_chromium() -> str:
    """The program; skips the test without it, or without Playwright."""
    pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    program = shutil.which("chromium") or shutil.which("google-chrome")
    if program is None:
        pytest.skip("chromium is not installed")
    return program


@contextlib.contextmanager
def new_page(**options):
    """A page of Playwright, with these options."""
    program = find_chromium()
    from playwright.sync_api import sync_playwright

    with sync_playwright() as browsers:
        browser = browsers.chromium.launch(executable_path=program, args=ARGUMENTS)
        yield browser.new_page(**options)
        browser.close()
