"""If one process of a run ends, dies, stops or is stuck, the others end."""

import signal
import subprocess
import sys

import pytest

from ssd_jax.distributed import watch
from tests.helpers.processes import run_together

pytestmark = pytest.mark.multiprocess

ABORT = """
import faulthandler, os
from ssd_jax.distributed import watch
faulthandler.enable()
watch._delay_aborts()
os.abort()
"""

# All wait for one process, mostly process 1, in one of these ways.
WAIT = """
    import jax, subprocess
    ways = {
        "exchange": lambda: exchange.gather_from_processes(index),
        "agreement": lambda: agreement.any_process(False),
        "values": lambda: devices.replicate(np.ones(3)),
        "devices": jax.devices,
        "host": lambda: time.sleep(60),
    }
    if "WAY" in ("agreement", "values"):
        agreement = devices.Agreement()
        agreement.any_process(False)  # compiled
    if index == ODD:
        BAD
    ways["WAY"]()
    print("went on")
"""


def run_with(bad: str, way: str, odd: int = 1, **limits: int):
    program = WAIT.replace("BAD", bad).replace("WAY", way).replace("ODD", str(odd))
    return run_together(program, 3, **limits)


def test_an_error_of_one_ends_all_with_its_message():
    error = "from ssd_jax.errors import UserError; raise UserError('the disk of host 1 is gone')"
    done = run_with(error, "exchange", wait=50)
    assert [each.returncode for each in done] == [1, 1, 1]
    assert done[1].stderr == "error: the disk of host 1 is gone\n"
    for other in (done[0], done[2]):
        assert other.stderr == "error: process 1 of the run ended: the disk of host 1 is gone\n"
        assert not other.stdout


def test_an_exception_in_one_process_ends_all():
    done = run_with("[][0]", "host")
    assert [each.returncode for each in done] == [1, 1, 1]
    assert "Traceback" in done[1].stderr and "IndexError" in done[1].stderr
    assert "process 1 of the run ended: IndexError: list index" in done[0].stderr


def test_an_interruption_of_one_ends_all_with_its_status():
    stop = "from ssd_jax.errors import Interrupted; raise Interrupted('SIGTERM: stopped')"
    done = run_with(stop, "host")
    assert [each.returncode for each in done] == [75, 75, 75]
    assert done[2].stderr.startswith("process 1 of the run ended: SIGTERM: stopped; the same")


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP])
def test_a_process_without_heartbeat_is_reported(number):
    later = "subprocess.Popen(f'exec >&- 2>&-; sleep 9; kill -9 {os.getpid()}', shell=True)"
    end = f"{later}; os.kill(os.getpid(), {int(number)})"
    done = run_with(end, "host", heartbeat=4, wait=50)
    assert [each.returncode for each in done] == [75, -signal.SIGKILL, 75]
    lines = [done[0].stderr.splitlines()[-1], done[2].stderr.splitlines()[-1]]
    assert any(line.startswith("error: process 1 has sent no heartbeat") for line in lines)
    assert all("Start all of them again" in line for line in lines)


@pytest.mark.parametrize("way", ["host", "exchange", "devices"])
def test_without_process_0_the_others_end_as_without_any_other(way):
    once_all_have_joined = "time.sleep(1); os.kill(os.getpid(), signal.SIGKILL)"
    done = run_with(once_all_have_joined, way, odd=0, wait=50)
    assert [each.returncode for each in done] == [-signal.SIGKILL, 75, 75]
    assert all("Start all of them again" in each.stderr for each in done[1:])


@pytest.mark.parametrize("way", ["exchange", "agreement", "values"])
def test_a_stuck_process_ends_the_others_after_a_timeout(way):
    done = run_with("time.sleep(60)", way, wait=4)
    assert [each.returncode for each in done] == [75, 75, 75]
    said = "".join(each.stderr for each in done)
    assert ("process 1 did not come within 4 s" in said) or ("lasted longer than 4 s" in said)


def test_a_process_that_ends_normally_causes_no_error():
    done = run_together("    devices.leave_together() if index else time.sleep(8)\n", heartbeat=4)
    assert [each.returncode for each in done] == [0, 0]
    assert not done[0].stderr and not done[1].stderr


def test_an_aborted_process_writes_its_stacks_before_it_ends():
    process = subprocess.Popen([sys.executable, "-c", ABORT], stderr=subprocess.PIPE, text=True)
    with process:
        assert process.stderr.readline() == "Fatal Python error: Aborted\n"
        assert "in <module>" in "".join(process.stderr.readline() for _ in range(3))
        assert process.poll() is None
        process.kill()


def test_windows_has_no_such_handler(monkeypatch):
    monkeypatch.setattr(watch.sys, "platform", "win32")
    monkeypatch.setattr(watch.ctypes, "CDLL", lambda name: name.lower())  # needs a name there
    watch._delay_aborts()
