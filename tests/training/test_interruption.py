import os
import signal
import subprocess
import sys

import pytest

from ssd_jax.errors import Interrupted
from ssd_jax.training.interruption import SIGNALS, Interruption


@pytest.mark.parametrize("number", SIGNALS)
def test_a_signal_waits_for_the_question(number):
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
        with pytest.raises(Interrupted, match=signal.Signals(number).name):
            interruption.check()
    assert {each: signal.getsignal(each) for each in SIGNALS} == handlers


def test_where_there_is_nothing_to_save_it_ends_at_once():
    with (
        pytest.raises(Interrupted, match="SIGTERM: stopped before the first step"),
        Interruption(),
    ):
        os.kill(os.getpid(), signal.SIGTERM)
        pytest.fail("went on")


def test_the_second_signal_ends_the_program_while_it_computes():
    program = """
import hashlib, os, signal, threading, time
from ssd_jax.training.interruption import Interruption

def send():
    for number in (signal.SIGTERM, signal.SIGINT):
        time.sleep(0.2)
        os.kill(os.getpid(), number)

with Interruption() as interruption:
    interruption.defer()
    threading.Thread(target=send).start()
    hashlib.pbkdf2_hmac("sha256", b"", b"", 10**9)  # minutes in which Python does nothing
"""
    done = subprocess.run([sys.executable, "-c", program], timeout=60)
    assert done.returncode == 128 + signal.SIGINT
