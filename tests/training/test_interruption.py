import os
import signal
import subprocess
import sys

import pytest

from ssd_jax.errors import Interrupted
from ssd_jax.training.interruption import SIGNALS, Interruption


@pytest.mark.parametrize("number", SIGNALS)
def test_a_signal_is_handled_at_the_next_check(number):
    handlers = {each: signal.getsignal(each) for each in SIGNALS}
    with Interruption() as interruption:
        interruption.defer()
        interruption.exchange()
        assert not interruption.requested
        interruption.check()
        os.kill(os.getpid(), number)
        assert not interruption.requested  # looking changes nothing
        interruption.exchange()
        assert interruption.requested
        with pytest.raises(Interrupted, match=r"SIGTERM: |Ctrl-C: "):
            interruption.check()
    assert {each: signal.getsignal(each) for each in SIGNALS} == handlers


def test_without_anything_to_save_a_run_ends_at_once():
    with (
        pytest.raises(Interrupted, match="SIGTERM: stopped before the first step"),
        Interruption(),
    ):
        os.kill(os.getpid(), signal.SIGTERM)
        pytest.fail("went on")


PROGRAM = """
import hashlib, os, signal, sys, threading, time
from ssd_jax.errors import Interrupted
from ssd_jax.training.interruption import Interruption

def send():
    for seconds, number in {signals}:
        time.sleep(seconds)
        os.kill(os.getpid(), number)

try:
    with Interruption() as interruption:
        if {deferred}:
            interruption.defer()
        threading.Thread(target=send).start()
        hashlib.pbkdf2_hmac("sha256", b"", b"", {rounds})  # during which Python does nothing
except Interrupted:
    sys.exit(3)
"""
TWICE = [(0.1, signal.SIGTERM.value), (0.002, signal.SIGTERM.value)]


@pytest.mark.parametrize(
    "signals, deferred, rounds, status",
    [
        # What comes at once is one signal, what comes later another one.
        # After more than a second, for that begins when the listening thread hears of the first.
        ([*TWICE, (1.5, signal.SIGINT.value)], True, 10**9, 128 + signal.SIGINT),
        # There is nothing to save, and the main thread is busy.
        (TWICE, False, 10**9, 75),
        # As in a notebook, whose process stays.
        ([(0.1, signal.SIGINT.value)] * 2, False, 7 * 10**6, 3),
    ],
)
def test_signals_end_a_program_that_computes(signals, deferred, rounds, status):
    program = PROGRAM.format(signals=signals, deferred=deferred, rounds=rounds)
    done = subprocess.run(
        [sys.executable, "-c", program], timeout=60, stderr=subprocess.PIPE, text=True
    )
    assert done.returncode == status, done.stderr
    said = {
        75: "SIGTERM: stopped before the first step; the same command continues\n",
        130: "\nSIGTERM: saving after the steps in flight; again: end without saving\n"
        "\nCtrl-C again: ended without saving\n",
    }
    assert done.stderr == said.get(status, "")
