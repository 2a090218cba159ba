"""Detects from the environment whether this program is one of several processes of a run.

JAX can detect it too (`jax.distributed.initialize`). But JAX treats a Slurm allocation as a run of
several processes, fails if a launcher does not provide all values, and gives a process of Slurm or
Open MPI one GPU even if it is the only process on its host.
"""

import importlib.util
import re
import urllib.request
from collections.abc import Mapping
from typing import NamedTuple

from ssd_jax.errors import UserError

METADATA_TIMEOUT = 3  # seconds; the server of a Cloud TPU VM answers at once


class Membership(NamedTuple):
    """The place of a process among the processes of a run."""

    launcher: str  # in words
    num_processes: int  # 0 = only the launcher knows
    process_id: int  # -1 = only the launcher knows
    gpus: tuple[int, ...] = ()  # GPUs of the host that this process uses; () = all visible ones
    coordinator: str = ""  # `host:port` of process 0; "" = JAX finds it
    missing: str = ""  # the reason why JAX cannot find the coordinator; "" = it can


def find_membership(
    environment: Mapping[str, str],
    coordinator: str = "",
    num_processes: int = 0,
    process_id: int = -1,
) -> Membership | None:
    """Finds the run of this process from the flags and the environment.

    Args:
      environment: the environment variables.
      coordinator: `host:port` of process 0; "" = from the launcher.
      num_processes: number of processes; 0 = from the launcher; 1 = no other process.
      process_id: number of this process; -1 = from the launcher.

    Returns:
      None for a run of one process.

    Raises:
      UserError: a value is wrong, or is missing in the flags and the environment.
    """
    port = re.fullmatch(r".+:(\d+)", coordinator)
    if coordinator and not (port and 0 < int(port[1]) < 65536):
        raise UserError(
            f"--coordinator is {coordinator}, but must be HOST:PORT, with a port up to 65535, like "
            "node0:1234"
        )
    launched = _launched(environment)
    known = launched or Membership("--coordinator", 0, -1, missing="it is not given")
    known = known._replace(
        coordinator=coordinator,
        num_processes=num_processes or known.num_processes,
        process_id=process_id if process_id >= 0 else known.process_id,
    )
    if 0 < known.num_processes <= known.process_id:
        raise UserError(
            f"--process_id is {known.process_id}, but must be less than the number of processes, "
            f"{known.num_processes}: they are counted from 0"
        )
    if known.num_processes == 1:
        return None
    if not launched and not coordinator:
        if num_processes or process_id >= 0:
            raise UserError(
                f"--{'num_processes' if num_processes else 'process_id'} is given, but no launcher "
                "that is known started this process: pass --coordinator=HOST:PORT too, the address "
                "of process 0"
            )
        return None
    _check_complete(known)
    return known


def _check_complete(known: Membership) -> None:
    """Raises a `UserError` if a value is missing that only the user knows."""
    if not known.missing:
        return
    if not known.coordinator:
        others = "" if known.num_processes else " and --num_processes=N"
        raise UserError(
            f"{known.launcher} started this process as one of several, but {known.missing}: pass "
            f"--coordinator=HOST:PORT{others}, with the host of process 0 and a port that is free "
            "there, or --num_processes=1 for a run of one process"
        )
    for name, is_given in (
        ("num_processes", known.num_processes > 0),
        ("process_id", known.process_id >= 0),
    ):
        if not is_given:
            raise UserError(f"--coordinator is given, but --{name} is not: pass it too")


def _launched(environment: Mapping[str, str]) -> Membership | None:
    """The membership according to the launcher; None if it started this process alone.

    The innermost launcher counts: mpirun in a Slurm job starts its processes through one process of
    Slurm on each host.
    """
    if "OMPI_COMM_WORLD_SIZE" in environment:
        return _by_open_mpi(environment)
    # A shell in an allocation has SLURM_NTASKS too. In a step, srun sets the number of its tasks.
    if "SLURM_STEP_NUM_TASKS" in environment:
        return _by_slurm(environment)
    if environment.get("TPU_ML_PLATFORM") == "JAX":  # JAX sets it if there are TPU chips and libtpu
        return _by_tpu(environment)
    if {"KUBERNETES_SERVICE_HOST", "JOB_COMPLETION_INDEX"} <= environment.keys():
        return _by_kubernetes(environment)
    return None


def _by_open_mpi(environment: Mapping[str, str]) -> Membership | None:
    num_processes = int(environment["OMPI_COMM_WORLD_SIZE"])
    if num_processes == 1:
        return None
    return Membership(
        "Open MPI",
        num_processes,
        int(environment["OMPI_COMM_WORLD_RANK"]),
        _own_gpus(
            environment,
            alone=environment["OMPI_COMM_WORLD_LOCAL_SIZE"] == "1",
            number=environment["OMPI_COMM_WORLD_LOCAL_RANK"],
        ),
        missing=(
            ""
            if "OMPI_MCA_orte_hnp_uri" in environment
            else "its version 5 does not say on which host process 0 is"
        ),
    )


def _by_slurm(environment: Mapping[str, str]) -> Membership | None:
    num_processes = int(environment["SLURM_STEP_NUM_TASKS"])
    if num_processes == 1:
        return None
    return Membership(
        "Slurm",
        num_processes,
        int(environment["SLURM_PROCID"]),
        _own_gpus(
            environment,
            # Each host of a step has a task.
            alone=environment["SLURM_STEP_NUM_NODES"] == environment["SLURM_STEP_NUM_TASKS"],
            number=environment["SLURM_LOCALID"],
        ),
    )


def _by_tpu(environment: Mapping[str, str]) -> Membership | None:
    """JAX gets the other values from the machine."""
    hosts = environment.get("TPU_PROCESS_ADDRESSES", environment.get("TPU_WORKER_HOSTNAMES"))
    if hosts is None and "TPU_SKIP_MDS_QUERY" not in environment:
        hosts = _metadata(environment, "worker-network-endpoints")
    several = "," in (hosts or "") or int(environment.get("MEGASCALE_NUM_SLICES", 1)) > 1
    return Membership("The TPU pod", 0, -1) if several else None


def _metadata(environment: Mapping[str, str], attribute: str) -> str | None:
    """An attribute from the metadata server of a Cloud TPU VM; None without a server."""
    server = environment.get("GCE_METADATA_IP", "metadata.google.internal")
    request = urllib.request.Request(
        f"http://{server}/computeMetadata/v1/instance/attributes/{attribute}",
        headers={"Metadata-Flavor": "Google"},
    )
    try:
        with urllib.request.urlopen(request, timeout=METADATA_TIMEOUT) as answer:
            return answer.read().decode()
    except OSError:
        return None


def _by_kubernetes(environment: Mapping[str, str]) -> Membership:
    """A pod of an indexed Job. Only the cluster's API knows their number."""
    installed = importlib.util.find_spec("kubernetes") is not None
    return Membership(
        "An indexed Job of Kubernetes",
        0,
        int(environment["JOB_COMPLETION_INDEX"]),
        missing="" if installed else "to find the others JAX needs the package kubernetes",
    )


def _own_gpus(environment: Mapping[str, str], alone: bool, number: str) -> tuple[int, ...]:
    """All GPUs if the process is alone on its host or sees only one; otherwise its own GPU.

    Args:
      environment: the environment variables.
      alone: whether no other process of the run is on this host.
      number: of this process among those of its host.
    """
    sees_one = "," not in environment.get("CUDA_VISIBLE_DEVICES", ",")
    return () if alone or sees_one else (int(number),)
