"""Signals during the imports of a command."""

import signal
import subprocess
import sys

import pytest

from ssd_jax import errors
from ssd_jax.cli import early_signals
from ssd_jax.cli.early_signals import command_of
from ssd_jax.training import interruption
from tests.helpers.commands import ROOT
from tools.attacks.signals import signal_at

# What Python imports last before a signal is sent.
MOMENTS = ("ssd_jax.errors", "absl.flags", "jax", "tensorflow", "ssd_jax.runs.train")

TRAIN = ("train.py", "--config=tests/tiny.py", "--workdir=")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("moment", MOMENTS)
@pytest.mark.slow
def test_training_that_is_stopped_during_imports_asks_to_try_again(moment, number, tmp_path):
    process = signal_at(moment, number, [*TRAIN[:2], f"{TRAIN[2]}{tmp_path}/run"], tmp_path)
    output, errors = process.communicate(timeout=60)
    assert process.returncode == 75 and not output, errors
    name = "Ctrl-C" if number == signal.SIGINT else "SIGTERM"
    assert errors == (f"{name}: stopped before the first step; the same command continues\n")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("moment", ["absl.flags", "jax"])
def test_control_c_ends_other_commands_with_one_line(moment, tmp_path):
    command = ("-m", "ssd_jax", "predict", f"--workdir={ROOT}", f"--output={tmp_path}", "x.png")
    process = signal_at(moment, signal.SIGINT, command, tmp_path)
    output, errors = process.communicate(timeout=60)
    assert process.returncode == 130 and not output
    assert errors == "stopped by Ctrl-C\n"


# One command's argument vector, what it does, and two signals a moment apart meanwhile.
TWICE = """
import hashlib, os, sys, threading, time
sys.argv = {argv!r}
from ssd_jax.cli import early_signals

def send():
    for _ in range(2):
        time.sleep(0.1)
        os.kill(os.getpid(), {number})

early_signals.release()
threading.Thread(target=send).start()
{work}
"""


def signal_twice(argv, number, work):
    program = TWICE.format(argv=argv, number=int(number), work=work)
    return subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, timeout=60
    )


def test_training_ends_while_its_main_thread_waits_in_c():
    # As for the other processes of a run.
    work = "hashlib.pbkdf2_hmac('sha256', b'', b'', 10**9)"
    done = signal_twice(["train.py"], signal.SIGTERM, work)
    assert done.returncode == 75
    said = "SIGTERM: stopped before the first step; the same command continues\n"
    assert done.stderr == said


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_repeated_signal_does_not_abort_the_shutdown(number):
    work = """
try:
    time.sleep(60)
except KeyboardInterrupt as error:
    time.sleep(0.3)
    print("cleaned", type(error).__name__)
"""
    done = signal_twice(["ssd-jax", "predict"], number, work)
    kind = "KeyboardInterrupt" if number == signal.SIGINT else "Terminated"
    assert (done.returncode, done.stdout) == (0, f"cleaned {kind}\n"), done.stderr


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
def test_a_program_is_identified_by_its_command_line(argv, command):
    assert command_of(argv) == command


def test_messages_equal_those_of_the_real_modules():
    ours = early_signals.TRY_AGAIN, early_signals.GOES_ON, early_signals.ONE_SIGNAL
    assert ours == (errors.TRY_AGAIN, errors.GOES_ON, interruption.ONE_SIGNAL)
    assert early_signals.SIGNALS == interruption.SIGNALS
