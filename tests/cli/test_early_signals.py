"""Signals that come while a command imports what it needs."""

import os
import signal
import subprocess
import sys
import time

import pytest

from ssd_jax.cli.early_signals import command_of
from tests.helpers.commands import ROOT

# What Python imports last before a signal is sent.
MOMENTS = ("ssd_jax.errors", "absl.flags", "jax", "tensorflow", "ssd_jax.runs.train")

# Tells on standard output when a module begins to be imported, and goes on slowly.
SLOW = """
import sys, time

class Told:
    def find_spec(self, name, path=None, target=None):
        if name == {name!r}:
            print("now", flush=True)
            time.sleep(1)

sys.meta_path.insert(0, Told())
"""


def signal_at(moment: str, number: int, *command: str, tmp_path) -> subprocess.Popen[str]:
    """A program to which a signal came when it began to import a module."""
    (tmp_path / "sitecustomize.py").write_text(SLOW.format(name=moment))
    process = subprocess.Popen(
        [sys.executable, *command],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(tmp_path)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None and process.stdout.readline() == "now\n"
    time.sleep(0.05)
    process.send_signal(number)
    return process


TRAIN = ("train.py", "--config=tests/tiny.py", "--workdir=")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("moment", MOMENTS)
def test_training_that_is_asked_to_end_while_it_imports_says_try_again(moment, number, tmp_path):
    process = signal_at(moment, number, *TRAIN[:2], f"{TRAIN[2]}{tmp_path}/run", tmp_path=tmp_path)
    output, errors = process.communicate(timeout=60)
    assert process.returncode == 75 and not output, errors
    name = signal.Signals(number).name
    assert errors == (
        f"{name}: stopped before the first step; the same command goes on from the last checkpoint"
        ", if any\n"
    )
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("moment", ["absl.flags", "jax"])
def test_control_c_ends_other_commands_with_one_line(moment, tmp_path):
    command = ("-m", "ssd_jax", "predict", f"--workdir={ROOT}", f"--output={tmp_path}", "x.png")
    process = signal_at(moment, signal.SIGINT, *command, tmp_path=tmp_path)
    output, errors = process.communicate(timeout=60)
    assert process.returncode == 130 and not output
    assert errors == "stopped by Ctrl-C\n"


@pytest.mark.parametrize(
    "argv, command",
    [
        (["/somewhere/train.py", "--config=x"], "train"),
        (["evaluate.py"], "evaluate"),
        (["-m", "train"], "train"),
        (["/bin/ssd-jax", "sweep"], "sweep"),
        (["/bin/ssd-jax"], ""),
        (["/lib/ssd_jax/__main__.py", "predict"], "predict"),
        (["/bin/pytest", "train"], ""),
        (["-c", "train"], ""),
        ([""], ""),
    ],
)
def test_the_program_is_known_by_its_command_line(argv, command):
    assert command_of(argv) == command
