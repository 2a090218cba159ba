"""Kills, stops or blocks one of several processes; a restarted run ends like an unbroken one."""

import functools
import hashlib
import json
import shutil
import signal
import tempfile
from collections.abc import Sequence
from pathlib import Path

import jax
import numpy as np

from ssd_jax.runs.trained import load_workdir
from tools.attacks.attack import Attack
from tools.attacks.several_processes import TINY, Process, run

KIND = "processes killed"
HEARTBEAT = 20  # seconds
LIMIT = 150  # seconds after which a wait for others ends

# The moments at which a process dies: a function of the package, and the number of the call.
MOMENTS = {
    "start": ("ssd_jax.distributed.devices", "initialize", 1),
    "comparing": ("ssd_jax.runs.agreement", "check_same_start", 1),
    "reading data": ("ssd_jax.runs.train", "check_data", 1),
    "compiling": ("ssd_jax.training.detection_loss", "detection_loss", 1),
    "step": ("ssd_jax.training.interruption", "Interruption.exchange", 3),
    "saving": ("ssd_jax.training.checkpoints", "Checkpoints.save", 2),
    "evaluation": ("ssd_jax.runs.evaluator", "_image_results", 1),
    "leaving": ("ssd_jax.distributed.watch", "stop", 1),
}

# Replaces a function by one that sends this process a signal when it is called.
DIE = """
import importlib, os, time
place, name, at, number = {place!r}, {name!r}, {at}, {number}
owner = importlib.import_module(place)
*classes, name = name.split(".")
for each in classes:
    owner = getattr(owner, each)
function, calls = getattr(owner, name), []
def replaced(*arguments, **options):
    calls.append(1)
    if len(calls) == at:
        if number:
            os.kill(os.getpid(), number)
        else:
            time.sleep(1000)
    return function(*arguments, **options)
setattr(owner, name, replaced)
"""

# Kills this process after some time, because no other process ends a stopped one.
REAP = """
import os, subprocess
subprocess.Popen("exec 2>&-; sleep {seconds}; kill -9 " + str(os.getpid()), shell=True)
"""

ARGUMENTS = (
    f"--config={TINY}",
    "--config.batch_size=6",
    "--config.steps=8",
    "--config.eval_every=4",
    "--config.ema=0.9",
    f"--heartbeat_timeout={HEARTBEAT}",
    f"--wait_timeout={LIMIT}",
)


def train(workdir: Path, programs: Sequence[str]) -> list[tuple[int, str]]:
    """Trains in several processes; each runs one of the programs first."""
    processes = [Process(program=program) for program in programs]
    return run("train", processes, *ARGUMENTS, f"--workdir={workdir}")


def outcome(workdir: Path) -> tuple[list[dict], str]:
    """The metrics of a run without speeds, and a digest of its parameters."""
    lines = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
    kept = [
        {name: value for name, value in line.items() if "per_second" not in name} for line in lines
    ]
    digest = hashlib.sha256()
    for array in jax.tree.leaves(load_workdir(workdir).variables):
        digest.update(np.asarray(array).tobytes())
    return kept, digest.hexdigest()


@functools.cache
def unbroken(count: int) -> tuple[list[dict], str]:
    """The outcome of a run without interruption."""
    folder = Path(tempfile.mkdtemp())
    try:
        check_statuses(train(folder / "run", [""] * count), [0] * count)
        return outcome(folder / "run")
    finally:
        shutil.rmtree(folder)


def check_statuses(ended: Sequence[tuple[int, str]], expected: Sequence[int]) -> None:
    """Checks the statuses of processes."""
    statuses = [status for status, _ in ended]
    assert statuses == list(expected), f"{statuses}: {[errors[-600:] for _, errors in ended]}"


def break_once(
    moment: str, number: int, odd: int, folder: Path, count: int = 3, restart: bool = True
) -> None:
    """Ends one process at a moment; all end, and a restarted run has the unbroken outcome."""
    place, name, at = MOMENTS[moment]
    program = DIE.format(place=place, name=name, at=at, number=number)
    ended = train(folder / "run", [program if i == odd else "" for i in range(count)])
    for i, (status, errors) in enumerate(ended):
        if i == odd and number == signal.SIGKILL:
            continue
        # A process that waits for one that never joined ends with 1.
        allowed = {1} if moment == "start" else {0, 75} if moment == "leaving" else {75}
        if moment == "leaving":
            allowed.add(-signal.SIGABRT)  # nobody watches any more, and JAX aborts
        assert status in allowed, f"status {status} of process {i}: {errors[-800:]}"
        assert "Traceback" not in errors, errors[-1500:]
    if restart:
        check_statuses(train(folder / "run", [""] * count), [0] * count)
        assert outcome(folder / "run") == unbroken(count)


def stop_and_reap(moment: str, odd: int, folder: Path) -> None:
    """Stops a process; a later signal ends it."""
    place, name, at = MOMENTS[moment]
    program = REAP.format(seconds=4 * HEARTBEAT) + DIE.format(
        place=place, name=name, at=at, number=int(signal.SIGSTOP)
    )
    ended = train(folder / "run", [program if i == odd else "" for i in range(3)])
    for i, (status, errors) in enumerate(ended):
        if i != odd:
            assert status == 75, f"status {status} of process {i}: {errors[-800:]}"
            assert "Start all of them again" in errors, errors[-800:]
    check_statuses(train(folder / "run", [""] * 3), [0] * 3)
    assert outcome(folder / "run") == unbroken(3)


ATTACKS = [
    *(
        Attack(
            KIND,
            f"process {odd} of three is killed at: {moment}",
            functools.partial(break_once, moment, int(signal.SIGKILL), odd),
        )
        for odd in (1, 0)
        for moment in MOMENTS
    ),
    *(
        Attack(
            KIND,
            f"process {odd} of two is killed at: {moment}",
            functools.partial(break_once, moment, int(signal.SIGKILL), odd, count=2),
        )
        for odd, moment in ((1, "step"), (0, "saving"))
    ),
    *(
        Attack(
            KIND,
            f"process {odd} of three stops at: {moment}",
            functools.partial(stop_and_reap, moment, odd),
        )
        for odd, moment in ((1, "comparing"), (2, "step"), (1, "saving"), (0, "evaluation"))
    ),
    *(
        Attack(
            KIND,
            f"process 1 of three is stuck at: {moment}",
            functools.partial(break_once, moment, 0, 1),
        )
        for moment in ("reading data", "step", "evaluation")
    ),
    *(
        Attack(
            KIND,
            f"{number.name} to process {odd} of three at: {moment}",
            functools.partial(break_once, moment, int(number), odd),
        )
        for number, odd, moment in (
            (signal.SIGTERM, 1, "reading data"),
            (signal.SIGINT, 2, "step"),
            (signal.SIGTERM, 0, "evaluation"),
        )
    ),
]
