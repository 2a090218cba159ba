"""Interrupted runs continue with the results of uninterrupted ones."""

import os
import shutil
import signal

import pytest

from tests.helpers.commands import free_port
from tools import kill_training
from tools.kill_training import log_of, start, wait_for_checkpoint

pytestmark = pytest.mark.slow

STEPS = 120


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """The folder of all runs, which share compiled programs."""
    return tmp_path_factory.mktemp("runs")


@pytest.fixture(scope="module")
def peaceful(runs):
    workdir = runs / "peaceful"
    kill_training.train_uninterrupted(STEPS, workdir)
    return workdir


def test_a_run_that_is_stopped_and_then_killed_reaches_the_same_end(peaceful, runs):
    workdir, last_step = runs / "interrupted", 0
    # Early, for only the last three checkpoints stay.
    for number, name in ((signal.SIGTERM, "SIGTERM"), (signal.SIGINT, "Ctrl-C")):
        child = start(STEPS, workdir)
        wait_for_checkpoint(child, workdir, last_step)
        os.kill(child.pid, number)
        child.join()
        said = log_of(workdir).read_text()
        assert child.exitcode == 75, said
        last_step = kill_training.complete_checkpoints(workdir)[-1]
        assert f"{name}: stopped at step {last_step} of {STEPS}, which is saved" in said
        assert not kill_training.is_saving(workdir)
    seen = kill_training.survive(3, STEPS, workdir, peaceful)
    assert seen.total() == 3


def start_both(workdir, steps):
    port = free_port()
    return [start(steps, workdir, port, index) for index in range(2)]


def assert_statuses(children, workdir, statuses):
    for index, (child, status) in enumerate(zip(children, statuses, strict=True)):
        child.join(200)
        assert child.exitcode == status, log_of(workdir, index).read_text()


@pytest.mark.multiprocess
def test_two_processes_end_together_and_continue(peaceful, runs):
    # They go on where one process was.
    together, cut_off = runs / "together", runs / "cut_off"
    for workdir in (together, cut_off):
        shutil.copytree(peaceful, workdir)
    steps = STEPS + 24
    assert_statuses(start_both(together, steps), together, (0, 0))

    # One is asked to end.
    children = start_both(cut_off, steps)
    wait_for_checkpoint(children[0], cut_off, after=STEPS)
    os.kill(children[1].pid, signal.SIGTERM)
    assert_statuses(children, cut_off, (75, 75))
    assert "a signal to another process: stopped at step" in log_of(cut_off).read_text()
    assert "SIGTERM: stopped at step" in log_of(cut_off, 1).read_text()

    # One dies.
    last_step = kill_training.complete_checkpoints(cut_off)[-1]
    children = start_both(cut_off, steps)
    wait_for_checkpoint(children[0], cut_off, after=last_step)
    children[1].kill()
    assert_statuses(children, cut_off, (75, -signal.SIGKILL))
    said = log_of(cut_off).read_text()
    assert "connection to another process of the run broke" in said and "Start all" in said

    assert_statuses(start_both(cut_off, steps), cut_off, (0, 0))
    kill_training.assert_same_run(cut_off, together)
    assert not list(runs.glob("*_of_another_host"))
