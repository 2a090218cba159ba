"""The environment of a launcher decides whether a process is one of several."""

import http.server
import threading

import pytest

from ssd_jax.distributed.launchers import find_membership
from ssd_jax.errors import UserError

# A shell in an allocation of two hosts with two tasks each: nothing was started by srun.
ALLOCATION = {
    "SLURM_JOB_ID": "4242",
    "SLURM_NTASKS": "4",
    "SLURM_JOB_NODELIST": "node[01-02]",
    "SLURM_PROCID": "0",
    "SLURM_LOCALID": "0",
}
# Task 3 of 4, on the second of two hosts.
SLURM = ALLOCATION | {
    "SLURM_STEP_NUM_TASKS": "4",
    "SLURM_STEP_NUM_NODES": "2",
    "SLURM_STEP_NODELIST": "node[01-02]",
    "SLURM_PROCID": "3",
    "SLURM_LOCALID": "1",
}
ONE_A_HOST = SLURM | {"SLURM_STEP_NUM_NODES": "4", "SLURM_LOCALID": "0"}
OPEN_MPI_5 = {
    "OMPI_COMM_WORLD_SIZE": "4",
    "OMPI_COMM_WORLD_RANK": "2",
    "OMPI_COMM_WORLD_LOCAL_SIZE": "2",
    "OMPI_COMM_WORLD_LOCAL_RANK": "0",
}
OPEN_MPI_4 = OPEN_MPI_5 | {"OMPI_MCA_orte_hnp_uri": "1531576320.0;tcp://10.96.0.1:34911"}
POD = {"KUBERNETES_SERVICE_HOST": "10.0.0.1", "HOSTNAME": "run-1-abcde"}
INDEXED_POD = POD | {"JOB_COMPLETION_INDEX": "1"}
TPU = {"TPU_ML_PLATFORM": "JAX"}
GKE_HOST = TPU | {"TPU_WORKER_HOSTNAMES": "a", "TPU_WORKER_ID": "0"}


@pytest.mark.parametrize(
    "environment",
    [
        {},
        ALLOCATION,
        # The shell that salloc may start as a step of one task keeps the allocation's numbers.
        ALLOCATION | {"SLURM_STEP_NUM_TASKS": "1", "SLURM_STEP_NODELIST": "node01"},
        OPEN_MPI_4 | {"OMPI_COMM_WORLD_SIZE": "1", "OMPI_COMM_WORLD_RANK": "0"},
        SLURM | OPEN_MPI_4 | {"OMPI_COMM_WORLD_SIZE": "1", "OMPI_COMM_WORLD_RANK": "0"},
        POD,
        GKE_HOST,
        GKE_HOST | INDEXED_POD,
        TPU | {"TPU_SKIP_MDS_QUERY": "1"},
        TPU | {"GCE_METADATA_IP": "127.0.0.1:1"},  # nobody answers
    ],
)
def test_a_process_without_launcher_runs_alone(environment):
    assert find_membership(environment) is None


@pytest.mark.parametrize(
    "environment", [SLURM, OPEN_MPI_4, OPEN_MPI_5, INDEXED_POD | {"JOB_COMPLETION_INDEX": "0"}]
)
def test_a_single_process_can_be_requested(environment):
    assert find_membership(environment, num_processes=1, process_id=0) is None


@pytest.mark.parametrize(
    ("environment", "num_processes", "process_id", "gpus"),
    [
        (SLURM, 4, 3, (1,)),
        (ONE_A_HOST, 4, 3, ()),  # it drives all GPUs of its host
        (SLURM | {"CUDA_VISIBLE_DEVICES": "0,1"}, 4, 3, (1,)),
        (SLURM | {"CUDA_VISIBLE_DEVICES": "1"}, 4, 3, ()),  # Slurm gave it one: that is its own
        (OPEN_MPI_4, 4, 2, (0,)),
        (OPEN_MPI_4 | {"OMPI_COMM_WORLD_LOCAL_SIZE": "1"}, 4, 2, ()),
        # mpirun starts its processes by way of one of Slurm's on each host.
        (ONE_A_HOST | OPEN_MPI_4, 4, 2, (0,)),
        (GKE_HOST | {"TPU_WORKER_HOSTNAMES": "a,b"}, 0, -1, ()),
        (GKE_HOST | {"TPU_PROCESS_ADDRESSES": "a:1,b:1"}, 0, -1, ()),
        (GKE_HOST | {"MEGASCALE_NUM_SLICES": "2"}, 0, -1, ()),
    ],
)
def test_a_launched_process_finds_its_rank(environment, num_processes, process_id, gpus):
    found = find_membership(environment)
    assert found[1:4] == (num_processes, process_id, gpus)
    assert found.coordinator == found.missing == ""


@pytest.mark.parametrize(
    ("workers", "several"), [("a", False), ("a:0:10.0.0.1,b:1:10.0.0.2", True)]
)
def test_tpu_workers_come_from_the_metadata_server(workers, several):
    asked = []

    class Metadata(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            asked.append((self.path, self.headers["Metadata-Flavor"]))
            self.send_response(200)
            self.end_headers()
            self.wfile.write(workers.encode())

        def log_message(self, *_):
            pass

    with http.server.HTTPServer(("127.0.0.1", 0), Metadata) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        found = find_membership(TPU | {"GCE_METADATA_IP": f"127.0.0.1:{server.server_port}"})
        server.shutdown()
    assert (found is not None) == several
    place = "/computeMetadata/v1/instance/attributes/worker-network-endpoints"
    assert asked == [(place, "Google")]


@pytest.mark.parametrize(
    ("environment", "given", "num_processes", "process_id"),
    [
        ({}, ("node0:1234", 4, 3), 4, 3),
        (OPEN_MPI_5, ("node0:1234",), 4, 2),
        (OPEN_MPI_5, ("node0:1234", 8, 7), 8, 7),
        (SLURM, ("node0:1234",), 4, 3),
        (SLURM, ("node0:1234", 0, 2), 4, 2),
        (INDEXED_POD, ("run-0.pods:1234", 2), 2, 1),
        (TPU | {"TPU_WORKER_HOSTNAMES": "a,b"}, ("a:1234",), 0, -1),
    ],
)
def test_flags_override_the_environment(environment, given, num_processes, process_id):
    found = find_membership(environment, *given)
    assert (found.num_processes, found.process_id) == (num_processes, process_id)
    assert found.coordinator == given[0]
    # By hand, as in a step of Slurm with one task a host, all devices take part.
    assert environment or found.gpus == ()


@pytest.mark.parametrize(
    ("environment", "given", "complaint"),
    [
        ({}, ("node0", 2, 0), "--coordinator is node0, but must be HOST:PORT"),
        ({}, ("node0:99999", 2, 0), "--coordinator is node0:99999, but must be .* up to 65535"),
        ({}, ("node0:1", 2, 2), "--process_id is 2, but must be less than .* 2: .* from 0"),
        (SLURM, ("", 2), "--process_id is 3, but must be less than .* 2"),
        ({}, ("", 2), "--num_processes is given, but .* pass --coordinator=HOST:PORT"),
        ({}, ("", 0, 1), "--process_id is given, but .* pass --coordinator=HOST:PORT"),
        (ALLOCATION, ("", 2, 1), "--num_processes is given, but .* pass --coordinator=HOST:PORT"),
        ({}, ("node0:1234", 0, 1), "--coordinator is given, but --num_processes is not"),
        ({}, ("node0:1234", 2), "--coordinator is given, but --process_id is not"),
        (INDEXED_POD, ("node0:1234",), "--coordinator is given, but --num_processes is not"),
        (OPEN_MPI_5, (), "Open MPI started .* version 5 .*: pass --coordinator=HOST:PORT, with"),
        (INDEXED_POD, (), "Kubernetes started .* package kubernetes: pass .* --num_processes=N,"),
    ],
)
def test_wrong_and_missing_variables_are_reported(environment, given, complaint):
    with pytest.raises(UserError, match=complaint) as error:
        find_membership(environment, *given)
    assert "\n" not in str(error.value)
