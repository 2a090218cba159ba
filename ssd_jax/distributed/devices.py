"""Data parallelism with `pmap`: devices, and the processes of a run.

Every device holds the whole state and a share of the batch. A host runs one process, which uses all
of its devices. No other file depends on the number of devices or processes.
"""

import atexit
import os
import socket
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental.compilation_cache import compilation_cache
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from ssd_jax.distributed import exchange, watch
from ssd_jax.distributed.launchers import Membership, find_membership
from ssd_jax.errors import UserError, reason_of

JAX_LATER = 30  # seconds after `watch` at which JAX itself ends a process, at the earliest
DEVICES = "devices"  # the name of the pmapped axis

Batch = dict[str, np.ndarray]
DeviceBatch = dict[str, jax.Array]
T = TypeVar("T")
State = TypeVar("State")
Metrics = TypeVar("Metrics")
Numbers = TypeVar("Numbers")
Variables = TypeVar("Variables")
Inputs = TypeVar("Inputs")
Outputs = TypeVar("Outputs")


def initialize(
    coordinator: str = "",
    num_processes: int = 0,
    process_id: int = -1,
    heartbeat_timeout: int = 100,
    join_timeout: int = 300,
    wait_timeout: float = watch.LONGEST_WAIT,
) -> None:
    """Joins the other processes of a run. Must be called before anything else uses a device.

    It does nothing if this process was started alone and no argument is given.

    Args:
      coordinator: `host:port` of process 0; "" = from the launcher (Slurm, Open MPI, a TPU pod,
        Kubernetes).
      num_processes: number of processes; 0 = from the launcher; 1 = no other process.
      process_id: number of this process; -1 = from the launcher.
      heartbeat_timeout: seconds without a heartbeat of one process after which the others end.
      join_timeout: seconds in which all processes must join; later the program ends with a message.
      wait_timeout: maximum seconds of a later wait for the others, before the program ends.

    Raises:
      UserError: a value is wrong or missing, or the launcher gives no address of the others.
    """
    run = find_membership(os.environ, coordinator, num_processes, process_id)
    if run is None:
        return
    if run.process_id == 0 and run.coordinator:
        _check_port(int(run.coordinator.rpartition(":")[2]))
    # It would receive SIGTERM instead of this program.
    jax.config.update("jax_enable_preemption_service", False)
    # At its timeout JAX ends the program with a C++ stack trace, so its timeout is longer than
    # ours.
    alarm = threading.Timer(join_timeout, _end_unjoined, [run, join_timeout])
    alarm.daemon = True
    alarm.start()
    try:
        jax.distributed.initialize(
            coordinator_address=run.coordinator or None,
            num_processes=run.num_processes or None,
            process_id=run.process_id if run.process_id >= 0 else None,
            local_device_ids=None if "JAX_LOCAL_DEVICE_IDS" in os.environ else run.gpus,
            initialization_timeout=join_timeout + 60,
            # Later than `watch`, which prints a message with the fix and exits with a status. JAX
            # sends a heartbeat at every half of this time: a process may die that long after its
            # last one.
            heartbeat_timeout_seconds=2 * (heartbeat_timeout + JAX_LATER),
        )
    except Exception as error:  # any error of the launcher's client
        raise UserError(
            f"this process is one of several ({run.launcher}), but cannot join the others: "
            f"{' '.join(str(error).split())}. Pass --coordinator=HOST:PORT, --num_processes and "
            "--process_id, or --num_processes=1 for a run of one process"
        ) from error
    finally:
        alarm.cancel()
    watch.start(heartbeat_timeout, wait_timeout)
    atexit.register(leave_together)


def _check_port(port: int) -> None:
    """Raises a `UserError` for a port that is in use; JAX would crash."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("", port))
        except OSError as error:
            raise UserError(
                f"process 0 cannot listen at port {port} of --coordinator: {reason_of(error)}; "
                "name another port, the same for all processes"
            ) from error


def _end_unjoined(run: Membership, seconds: int) -> None:
    of_how_many = f" of {run.num_processes}" if run.num_processes else ""
    watch.end_process(
        1,
        f"error: this is process {run.process_id}{of_how_many}, but after {seconds} s not all "
        f"have connected to {run.coordinator or f'the address from {run.launcher}'}: check that "
        "all were started and can reach process 0 there",
    )


def joined() -> bool:
    """Whether `initialize` joined other processes."""
    return jax.distributed.is_initialized()


def leave_together() -> None:
    """Waits until all processes of the run call this, so that the end of one causes no errors."""
    if joined():
        watch.stop()
        jax.distributed.shutdown()


def process_index() -> int:
    """The number of this process."""
    return jax.process_index()


def process_count() -> int:
    """The number of processes that take part."""
    return jax.process_count()


def is_main_process() -> bool:
    """Whether this is the main process, which prints and writes."""
    return jax.process_index() == 0


def num_devices() -> int:
    """The number of devices of all processes."""
    return jax.device_count()


def describe_devices() -> str:
    """The number and kind of the devices, in words."""
    kinds = sorted({device.device_kind for device in jax.devices()})
    devices = f"{jax.device_count()} × {' and '.join(kinds)}"
    return devices if process_count() == 1 else f"{devices} in {process_count()} processes"


def round_up(batch_size: int) -> int:
    """The next size of a global batch that the devices can share evenly."""
    return -(-batch_size // jax.device_count()) * jax.device_count()


def per_process_batch_size(batch_size: int, accumulate: int = 1) -> int:
    """This process's share of a global batch.

    Args:
      batch_size: of the global batch.
      accumulate: gradient accumulation steps.

    Raises:
      UserError: the devices cannot share the batch evenly.
    """
    shares = jax.device_count() * accumulate
    if batch_size <= 0 or batch_size % shares:
        in_parts = f" in {accumulate} parts each" if accumulate > 1 else ""
        raise UserError(
            f"config.batch_size is {batch_size}, but must be a multiple of {shares} for the "
            f"{jax.device_count()} devices{in_parts}: set it to "
            f"{max(shares, batch_size // shares * shares)}"
        )
    return batch_size // jax.process_count()


def pmap_train_step(
    step: Callable[[State, DeviceBatch, Numbers], tuple[State, Metrics]],
) -> Callable[[State, DeviceBatch, Numbers], tuple[State, Metrics]]:
    """Runs `step(state, batch, numbers) -> (state, metrics)` on every device.

    Each device gets its share of the batch. State and numbers are the same on every device, and so
    must be the outputs of `step`. The input state is donated: its memory is used for the output
    state. Processes wait for each other here.

    Raises:
      LostProcessError: a process did not make this call in time.
    """
    if process_count() > 1:
        # In the first step CPUs wait for each other for at most 30 s (Gloo). Only process 0 uses
        # cached compiled programs, and would wait while the others compile the step.
        if jax.default_backend() == "cpu":
            jax.config.update("jax_enable_compilation_cache", False)
            compilation_cache.reset_cache()  # which reads that setting once
        exchange.from_main_process(True)
    return jax.pmap(
        step, axis_name=DEVICES, in_axes=(None, 0, None), out_axes=(None, None), donate_argnums=0
    )


def pmap_predict(
    predict: Callable[[Variables, Inputs], Outputs],
) -> Callable[[Variables, Inputs], Outputs]:
    """Runs `predict(variables, inputs)` on every device, each on its share of the images."""
    return jax.pmap(predict, axis_name=DEVICES, in_axes=(None, 0), out_axes=0)


def replicate(tree: T) -> T:
    """Copies values, the same in all processes, to every device, in the layout of `pmap`'s outputs.

    With another layout, the second call of a pmapped function would compile it again.
    """
    mesh = Mesh(np.array(jax.devices()), (DEVICES,))
    with watch.waiting("values that all processes have"):  # JAX compares them
        return jax.device_put(tree, NamedSharding(mesh, PartitionSpec()))


def shard(batch: Any) -> Any:
    """Splits the first axis of every array over the devices of this process."""
    devices = jax.local_device_count()
    return jax.tree.map(lambda x: x.reshape(devices, -1, *x.shape[1:]), batch)


def place(batch: Any) -> Any:
    """Starts sending a batch to the devices of this process, split by the first axis."""
    mesh = Mesh(np.array(jax.local_devices()), (DEVICES,))
    return jax.device_put(shard(batch), NamedSharding(mesh, PartitionSpec(DEVICES)))


def prefetch(batches: Iterator[Batch], keys: Sequence[str]) -> Iterator[tuple[Batch, DeviceBatch]]:
    """Yields every batch with its arrays of these names sharded over the devices.

    The next batch is sent before a batch is yielded: the transfer overlaps with computation.
    """

    def send(batch: Batch) -> tuple[Batch, DeviceBatch]:
        return batch, place({key: batch[key] for key in keys})

    on_its_way = send(next(batches))
    for batch in batches:
        following = send(batch)
        yield on_its_way
        on_its_way = following
    yield on_its_way


def unshard(batch: Any) -> Any:
    """Brings this process's share of a pmapped result to the host as one batch of NumPy arrays."""

    def gather(array: jax.Array) -> np.ndarray:
        shards = sorted(array.addressable_shards, key=lambda shard: shard.index[0].start or 0)
        parts = np.concatenate([np.asarray(shard.data) for shard in shards])
        return parts.reshape(-1, *parts.shape[2:])

    return jax.tree.map(gather, batch)


def to_host(tree: Any) -> Any:
    """Brings values that are the same on every device to the host as NumPy arrays."""
    with watch.waiting("numbers that all processes compute together"):
        return jax.tree.map(lambda array: np.asarray(array.addressable_data(0)), tree)


def wait_for(tree: Any) -> None:
    """Waits until the devices have computed these values."""
    with watch.waiting("numbers that all processes compute together"):
        jax.block_until_ready(tree)


def global_position(per_device_batch_size: int) -> jax.Array:
    """Inside a pmapped function: `[batch]`, the indices of this device's images in the batch."""
    first = jax.lax.axis_index(DEVICES) * per_device_batch_size
    return first + jnp.arange(per_device_batch_size)


def sum_over_devices(tree: T) -> T:
    """Inside a pmapped function: sums every array over all devices of all processes."""
    return jax.lax.psum(tree, DEVICES)


class Agreement:
    """Shares a boolean of each process with all processes, between two steps.

    This costs almost nothing: the devices sum it in parallel with the steps, and the sum is read
    after the next step has begun.
    """

    def __init__(self) -> None:
        self._waiting: jax.Array | None = None
        self._sum = jax.pmap(sum_over_devices, axis_name=DEVICES, out_axes=None)

    def any_process(self, here: bool) -> bool:
        """Whether any process passed True at the previous call; with one process, at this call.

        All processes must call it equally often; they get the same result.
        """
        if jax.process_count() == 1:
            return here
        before = self._waiting
        with watch.waiting("messages between all processes"):  # some platforms wait in the call
            self._waiting = self._sum(np.full(jax.local_device_count(), here, np.int32))
        return before is not None and bool(to_host(before))
