import os
import pty
import subprocess
import sys
import termios

import pytest

from ssd_jax import progress
from ssd_jax.progress import progress_bar

BAR = """
from ssd_jax.progress import progress_bar
for _ in progress_bar(range(500), total=500, desc="train", unit="step"): pass
"""


@pytest.mark.parametrize("seconds, lines", [(30.0, 2), (0.0, 7)])
def test_a_log_has_lines(seconds, lines, capsys, monkeypatch):
    monkeypatch.delenv("TQDM_MININTERVAL", raising=False)
    monkeypatch.setattr(progress, "LOG_SECONDS", seconds)
    assert list(progress_bar(range(5), total=5, desc="a", unit=" images")) == [*range(5)]
    shown = capsys.readouterr().err
    assert shown.count("\n") == lines and shown.splitlines()[-1].startswith("a: 100%|")
    assert "\r" not in shown and "\x1b" not in shown and "\n\n" not in shown
    # One that leaves nothing on a terminal leaves no end of its own.
    list(progress_bar(range(5), total=5, desc="a", unit=" images", leave=False))
    assert "\r" not in capsys.readouterr().err


def test_the_variable_overrides_the_terminal():
    env = os.environ | {"TQDM_MININTERVAL": "0"}
    command = [sys.executable, "-c", BAR]
    logged = subprocess.run(command, capture_output=True, text=True, env=env, check=True).stderr
    assert logged.count("\n") >= 501 and "\r" not in logged
    here, there = pty.openpty()
    termios.tcsetwinsize(there, (24, 80))
    subprocess.run(command, stderr=there, check=True)
    os.close(there)
    assert b"\rtrain: 100%" in os.read(here, 10_000)
    os.close(here)
