"""Devices of this process, and processes that join."""

import socket

import jax
import numpy as np
import pytest

from ssd_jax.distributed import devices, watch
from tests.helpers import forked
from tests.helpers.commands import free_port, with_devices


def test_batches_are_sent_one_ahead_in_order(monkeypatch):
    sent, send = [], jax.device_put
    monkeypatch.setattr(jax, "device_put", lambda x, to: sent.append(x) or send(x, to))
    batches = ({"x": np.full((8, 2), number), "name": f"batch {number}"} for number in range(4))
    seen = []
    for batch, on_device in devices.prefetch(batches, ["x"]):
        seen.append(batch["name"])
        assert len(sent) == min(len(seen) + 1, 4)  # the one after this is on its way too
        assert list(on_device) == ["x"] and isinstance(on_device["x"], jax.Array)
        np.testing.assert_array_equal(devices.unshard(on_device["x"]), batch["x"])
    assert seen == [f"batch {number}" for number in range(4)]


def test_prefetched_batches_compile_a_step_once():
    compilations = []
    jax.monitoring.register_event_duration_secs_listener(
        lambda event, *_, **__: compilations.append(event) if "backend_compile" in event else None
    )
    step = devices.pmap_train_step(
        lambda state, batch, factor: (
            state + factor * devices.sum_over_devices(batch["x"].sum()),
            batch["x"].sum(),
        )
    )
    state, counts = devices.replicate(np.float32(0)), []
    batches = ({"x": np.ones((8, 3), np.float32)} for _ in range(4))
    for number, (_, batch) in enumerate(devices.prefetch(batches, ["x"])):
        state, _ = step(state, batch, np.float32(number))
        counts.append(len(compilations))
    assert state == (0 + 1 + 2 + 3) * 24
    assert counts[0] > 0 and counts[1:] == [counts[0]] * 3


JOIN = """
import sys
import jax.numpy as jnp
from ssd_jax.cli import console
from ssd_jax.distributed import devices, watch

with console.session():
    devices.initialize(*sys.argv[1:2], *map(int, sys.argv[2:4]), join_timeout=60)
    sums = devices.pmap_predict(lambda _, x: devices.sum_over_devices(x))
    total = devices.unshard(sums(None, jnp.full((2, 1), 10.0 ** devices.process_index())))
    print(devices.process_count(), devices.process_index(), *total)
    devices.leave_together()
"""


def start(*arguments, program=JOIN, **variables):
    """Starts the program in a separate process with two devices."""
    # What the tests themselves were started by is not to be seen.
    ours = {
        name: value
        for name, value in with_devices(2).items()
        if not name.startswith(("SLURM_", "OMPI_", "TPU_", "KUBERNETES_", "JOB_"))
    }
    return forked.start(["-c", program, *arguments], ours | variables)


def by_slurm(number, port):
    return {
        "SLURM_JOB_ID": "4242",
        "SLURM_STEP_NODELIST": "localhost",
        "SLURM_NTASKS": "2",
        "SLURM_STEP_NUM_TASKS": "2",
        "SLURM_STEP_NUM_NODES": "1",
        "SLURM_PROCID": number,
        "SLURM_LOCALID": number,
        "JAX_COORDINATOR_PORT": port,
    }


def by_open_mpi(number, port):
    return {
        "OMPI_MCA_orte_hnp_uri": "1531576320.0;tcp://127.0.0.1:34911",
        "OMPI_COMM_WORLD_SIZE": "2",
        "OMPI_COMM_WORLD_RANK": number,
        "OMPI_COMM_WORLD_LOCAL_SIZE": "2",
        "OMPI_COMM_WORLD_LOCAL_RANK": number,
        "JAX_COORDINATOR_PORT": port,
    }


@pytest.mark.parametrize("launcher", [by_slurm, by_open_mpi])
@pytest.mark.multiprocess
def test_processes_of_a_launcher_join_automatically(launcher):
    port = str(free_port())
    processes = [start(**launcher(str(number), port)) for number in range(2)]
    for number, process in enumerate(processes):
        output, errors = process.communicate(timeout=100)
        assert process.returncode == 0 and not errors, errors
        # Of both processes and their two devices each.
        assert output.splitlines()[-1].split() == ["2", str(number), "22.0", "22.0"]


@pytest.mark.multiprocess
def test_a_process_whose_peers_never_start_ends_with_one_line():
    program = JOIN.replace("join_timeout=60", "join_timeout=2")
    port = free_port()
    for number in (0, 1):
        # The other one was never started.
        process = start(f"127.0.0.1:{port}", 2, number, program=program)
        output, errors = process.communicate(timeout=100)
        assert process.returncode == 1 and not output
        (line,) = errors.splitlines()
        assert line.startswith(f"error: this is process {number} of 2, but after 2 s")
        assert f"127.0.0.1:{port}" in line


@pytest.mark.multiprocess
def test_a_port_in_use_is_reported():
    with socket.socket() as taken:
        taken.bind(("", 0))
        taken.listen()
        port = taken.getsockname()[1]
        process = start(f"127.0.0.1:{port}", 2, 0)
        _, errors = process.communicate(timeout=100)
    assert process.returncode == 1
    (line,) = errors.splitlines()
    assert f"port {port} of --coordinator: Address already in use" in line


def test_jax_ends_a_process_later_than_the_watch_does(monkeypatch):
    told = {}
    monkeypatch.setattr(jax.distributed, "initialize", lambda **options: told.update(options))
    monkeypatch.setattr(watch, "start", lambda timeout, wait: told.update(watch=timeout))
    monkeypatch.setattr(devices.atexit, "register", lambda function: None)
    before = jax.config.jax_enable_preemption_service
    devices.initialize(f"127.0.0.1:{free_port()}", 2, 0, heartbeat_timeout=100)
    jax.config.update("jax_enable_preemption_service", before)
    # JAX sends a heartbeat in each half of its timeout: the last one may have been sent half of it
    # before a process died.
    assert told["heartbeat_timeout_seconds"] / 2 > told["watch"] + watch.ANNOUNCEMENT + watch.PERIOD
