"""Kills a small training at random moments, and compares its end with an uninterrupted training.

    python -m tools.kill_training --kills=20

The test suite does the same with a few kills.
"""

import argparse
import collections
import functools
import gc
import json
import multiprocessing
import os
import random
import signal
import sys
import tempfile
import time
from pathlib import Path

import jax
import numpy as np

from ssd_jax.cli import console
from ssd_jax.config.files import load_config
from ssd_jax.distributed import devices
from ssd_jax.models.network import build_network
from ssd_jax.runs.train import train
from ssd_jax.runs.workdir import read_class_names
from ssd_jax.training.checkpoints import Checkpoints
from ssd_jax.training.optimizer import make_optimizer
from ssd_jax.training.state import initial_state

TINY = Path(__file__).parents[1] / "tests" / "tiny_two_maps.py"  # a config of seconds
MOMENTS = ("training", "saving", "evaluating", "starting")
EVAL_EVERY = 60
TIMEOUT = 120  # seconds without the wanted moment

# Children are forked from a process that has imported everything.
PROCESSES = multiprocessing.get_context("forkserver")
PROCESSES.set_forkserver_preload(["ssd_jax.runs.train", "ssd_jax.data.training_batches"])


def config(steps, port=0):
    """The config; two processes compile at every start, so their programs are fewer and smaller.

    Their steps are slower, so checkpoints are more frequent.
    """
    of_one = {"checkpoint_every": 20, "eval_every": EVAL_EVERY}
    of_two = {"checkpoint_every": 6, "eval_every": 24, "augment.color": False}
    return load_config(str(TINY)).replace(
        {
            "steps": steps,
            "log_every": 7,
            "ema": 0.9,
            "loggers": "tensorboard",
            **(of_two if port else of_one),
        }
    )


def train_here(steps, workdir, log, port, process_id):
    """Trains in a child process."""
    with open(log, "a") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    gc.set_threshold(10_000)  # as `ssd-jax` does
    jax.config.update("jax_compilation_cache_dir", str(Path(log).parent / "compiled"))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)
    with console.session():
        if port:
            devices.initialize(f"127.0.0.1:{port}", 2, process_id, heartbeat_timeout=20)
        # The work directory of the second process does not exist, because it never needs it.
        own = workdir if process_id == 0 else f"{workdir}_of_another_host"
        train(config(steps, port), str(own), change_config=bool(port))
        devices.leave_together()  # programs do this at their end, but forked children do not


def log_of(workdir, process_id=0):
    """The log file of a child."""
    return workdir.parent / f"{workdir.name}_{process_id}.log"


def start(steps, workdir, port=0, process_id=0):
    """Starts a training in a new process; with a port, one of two that train together."""
    log = log_of(workdir, process_id)
    child = PROCESSES.Process(target=train_here, args=(steps, workdir, log, port, process_id))
    child.start()
    return child


def train_uninterrupted(steps, workdir):
    child = start(steps, workdir)
    child.join()
    assert child.exitcode == 0, log_of(workdir).read_text()


def complete_checkpoints(workdir):
    return sorted(int(path.name) for path in workdir.glob("checkpoints/*") if path.name.isdigit())


def is_saving(workdir):
    return any("tmp" in path.name for path in workdir.glob("checkpoints/*"))


def is_evaluating(workdir):
    """Whether the last state is saved, but its evaluation is not written yet."""
    newest = complete_checkpoints(workdir)[-1:]
    if not newest or newest[0] % EVAL_EVERY:
        return False
    file = workdir / "metrics.jsonl"
    return f'{{"step": {newest[0]}, "eval/mAP"' not in file.read_text()


def wait_for_checkpoint(child, workdir, after=0):
    """Waits until a later checkpoint than that of a step is complete."""
    deadline = time.monotonic() + TIMEOUT
    while child.is_alive() and complete_checkpoints(workdir)[-1:] <= [after]:
        assert time.monotonic() < deadline, log_of(workdir).read_text()
        time.sleep(0.005)


def kill_once(steps, workdir, moment, random_numbers):
    """Starts the training and kills it; returns the moment, or None if it ended before."""
    saved_before = complete_checkpoints(workdir)[-1:]
    child = start(steps, workdir)
    deadline = time.monotonic() + TIMEOUT

    def wait_until(condition):
        while child.is_alive() and not condition():
            assert time.monotonic() < deadline, f"{workdir} comes to no {moment}"
            time.sleep(0.005)

    if moment == "starting":
        time.sleep(random_numbers.uniform(0, 4))
    else:
        wait_until(lambda: complete_checkpoints(workdir)[-1:] > saved_before)
    if moment == "training":
        wait_until(lambda: not is_saving(workdir))
        time.sleep(random_numbers.uniform(0, 0.05))
    elif moment == "saving":
        wait_until(lambda: is_saving(workdir))
        time.sleep(random_numbers.uniform(0, 0.03))
    elif moment == "evaluating":
        wait_until(lambda: is_evaluating(workdir))
        time.sleep(random_numbers.uniform(0, 0.03))
    child.kill()
    child.join()
    if child.exitcode != -signal.SIGKILL:
        assert child.exitcode == 0, log_of(workdir).read_text()
        return None
    # No earlier checkpoint is lost.
    newest = complete_checkpoints(workdir)[-1:]
    assert newest >= saved_before
    if moment == "starting" and newest == saved_before:
        return moment
    if is_evaluating(workdir):
        return "evaluating"
    return "saving" if is_saving(workdir) else "training"


def starts(workdir):
    file = workdir / "starts.jsonl"
    lines = file.read_text().splitlines() if file.is_file() else []
    return [json.loads(line)["step"] for line in lines]


def survive(kills, steps, killed, peaceful, seed=0):
    """Kills a run several times, lets it finish, and compares it with an uninterrupted run.

    Returns the number of kills at each kind of moment.
    """
    random_numbers, seen = random.Random(seed), collections.Counter()
    for i in range(kills):
        moment = kill_once(steps, killed, MOMENTS[i % len(MOMENTS)], random_numbers)
        if moment is None:
            break
        seen[moment] += 1
        newest, num_starts = complete_checkpoints(killed)[-1:], len(starts(killed))
        print(f"kill {i + 1}: {moment}, saved up to {newest}", flush=True)
        if i + 1 == kills:
            train_uninterrupted(steps, killed)
            assert starts(killed)[num_starts:][:1] == (newest or [0])
    assert_same_run(killed, peaceful)
    return seen


def assert_same_run(run, other):
    """Checks that losses, evaluations, checkpoints, parameters and optimiser are bit-identical."""
    assert numbers(run) == numbers(other)
    assert complete_checkpoints(run) == complete_checkpoints(other)
    jax.tree.map(np.testing.assert_array_equal, last_state(run), last_state(other))


def numbers(workdir):
    """The metrics of a run, without speeds."""
    lines = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
    return [
        {key: value for key, value in line.items() if key != "train/images_per_second"}
        for line in lines
    ]


def last_state(workdir):
    settings = config(steps=1)
    network = build_network(settings.model, len(read_class_names(workdir)))
    optimizer = make_optimizer(settings, lambda step: 0.1)
    new_state = functools.partial(initial_state, optimizer=optimizer, averages=True)
    template = jax.eval_shape(new_state, *network.variable_shapes())
    return Checkpoints(workdir / "checkpoints", read_only=True).restore(template)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        started = time.monotonic()
        steps = 45 * arguments.kills
        peaceful = Path(folder) / "peaceful"
        train_uninterrupted(steps, peaceful)
        seen = survive(arguments.kills, steps, Path(folder) / "killed", peaceful, arguments.seed)
    counts = ", ".join(f"{count} {moment}" for moment, count in seen.items())
    print(f"{sum(seen.values())} kills ({counts}) of a run of {steps} steps: it ended as the one")
    print(
        f"that was never interrupted, bit for bit, after {time.monotonic() - started:.0f} seconds"
    )
    if sum(seen.values()) < arguments.kills:
        sys.exit("the run ended before all kills were done")


if __name__ == "__main__":
    main()
