"""Runs that are cut off go on as if nothing had been."""

import os
import signal
import socket

import pytest

from tests import kill_training
from tests.kill_training import log_of, start, wait_for_checkpoint

STEPS = 24


@pytest.fixture(scope="module")
def peaceful(tmp_path_factory):
    workdir = tmp_path_factory.mktemp("runs") / "peaceful"
    kill_training.train_in_peace(STEPS, workdir)
    return workdir


def test_a_run_that_is_killed_goes_on_to_the_same_end(peaceful, tmp_path):
    seen = kill_training.survive(3, STEPS, tmp_path / "killed", peaceful)
    assert seen.total() == 3


def test_a_run_that_is_asked_to_end_saves_and_goes_on(peaceful, tmp_path):
    workdir = tmp_path / "asked"
    for number, after in ((signal.SIGTERM, 0), (signal.SIGINT, 6)):
        child = start(STEPS, workdir)
        wait_for_checkpoint(child, workdir, after)
        os.kill(child.pid, number)
        child.join()
        said = log_of(workdir).read_text()
        assert child.exitcode == 75, said
        last_step = kill_training.complete_checkpoints(workdir)[-1]
        assert f"{number.name}: stopped at step {last_step} of {STEPS}" in said
        assert "goes on from the last checkpoint" in said
        assert not kill_training.is_saving(workdir)
    kill_training.train_in_peace(STEPS, workdir)
    kill_training.assert_same_run(workdir, peaceful)


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def test_of_two_processes_the_second_ends_with_the_first(tmp_path):
    def start_both(workdir):
        port = free_port()
        return [start(12, workdir, port, index) for index in range(2)]

    def finish(children, workdir):
        for index, child in enumerate(children):
            child.join()
            assert child.exitcode == 0, log_of(workdir, index).read_text()

    together, cut_off = tmp_path / "together", tmp_path / "cut_off"
    finish(start_both(together), together)

    children = start_both(cut_off)
    wait_for_checkpoint(children[0], cut_off, after=4)
    children[1].kill()
    children[0].join(60)
    said = log_of(cut_off).read_text()
    assert children[0].exitcode == 75, said
    assert "connection to another process of the run broke" in said and "Start all" in said

    finish(start_both(cut_off), cut_off)
    kill_training.assert_same_run(cut_off, together)


def test_of_two_processes_both_end_when_one_is_asked(tmp_path):
    workdir, port = tmp_path / "run", free_port()
    children = [start(10**6, workdir, port, index) for index in range(2)]
    wait_for_checkpoint(children[0], workdir)
    os.kill(children[1].pid, signal.SIGTERM)
    for index, child in enumerate(children):
        child.join(60)
        assert child.exitcode == 75, log_of(workdir, index).read_text()
    assert "a signal to another process: stopped at step" in log_of(workdir).read_text()
    assert "SIGTERM: stopped at step" in log_of(workdir, 1).read_text()
