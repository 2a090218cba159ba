"""The train step on one to eight devices, of one process or two: its update is the same."""

import json
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from tests.helpers import forked
from tests.helpers.commands import free_port, with_devices

pytestmark = [pytest.mark.slow, pytest.mark.multiprocess]

# Of each way to take steps: what came out, and the first update.
PROGRAM = """
import gc, json, sys
from pathlib import Path
import jax, numpy as np
from ssd_jax.config.schema import as_config
from ssd_jax.distributed import devices
from ssd_jax.models.network import build_network
from ssd_jax.training.checkpoints import Progress
from ssd_jax.training.run_checkpoints import RunCheckpoints
from ssd_jax.training.steps import make_train_step
from tests import tiny_two_maps
from tests.training.test_steps import CONFIG, first_numbers, make_batch, new_state

gc.set_threshold(10_000)  # as `ssd-jax` does
file, *place = sys.argv[1:]
devices.initialize(*place[:1], *map(int, place[1:]))
compilations, results, arrays = [], {}, {}
jax.monitoring.register_event_duration_secs_listener(
    lambda event, *_, **__: compilations.append(event) if "backend_compile" in event else None
)
share = 16 // devices.process_count()
mine = slice(devices.process_index() * share, (devices.process_index() + 1) * share)
batch = {name: array[mine] for name, array in make_batch(num_images=16).items()}
other_losses = {
    "loss.confidence": "focal", "loss.localisation": "giou", "loss.class_weights": "2,1,1,0.5,3"
}
network = build_network(as_config(tiny_two_maps.get_config()).model, num_classes=5)
for accumulate, losses in ((1, {}), (2, other_losses)):
    state = new_state(network)
    config = CONFIG.replace(
        {"accumulate": accumulate, "augment.color": True, "augment.flip": True} | losses
    )
    train_step = devices.pmap_train_step(make_train_step(config, network))
    log = []
    for number in range(3):
        before = state
        state, metrics = train_step(state, devices.shard(batch), first_numbers())
        log.append({key: float(value) for key, value in devices.to_host(metrics).items()})
        log[-1]["compilations"] = len(compilations)
        if number == 0:
            # Before anything of the state is looked at here, which would keep it.
            log[-1]["given_up"] = all(leaf.is_deleted() for leaf in jax.tree.leaves(before))
            # The first momentum is the first update, before it is rounded into the parameters.
            update = state.opt_state[-1].trace
            trees = {"heads": update["heads"], "whole": update, "stats": state.batch_stats}
            for name, tree in trees.items():
                leaves = jax.tree.leaves(devices.to_host(tree))
                arrays[f"{name}{accumulate}"] = np.concatenate([leaf.ravel() for leaf in leaves])
    results[accumulate] = {"step": int(devices.to_host(state.step)), "log": log}
results["devices"] = jax.device_count(), jax.local_device_count()
if devices.process_count() > 1:
    # On two hosts, whose disks are their own.
    folder = Path(file).with_name(f"checkpoints{devices.process_index()}")
    checkpoints = RunCheckpoints(folder, keep=3)
    checkpoints.save(state, Progress(skipped=4))
    checkpoints.wait_together()
    expected = devices.to_host(state)
    restored, progress = checkpoints.restore(expected)
    jax.tree.map(np.testing.assert_array_equal, restored, expected)
    results["saved"] = [folder.exists(), checkpoints.steps(), progress.skipped]
    checkpoints.close()
np.savez(file, results=json.dumps(results), **arrays)
devices.leave_together()
"""

# How many devices there are, and of how many processes.
PLACES = {"1": (1, 1), "8": (8, 1), "2 of each of 2": (4, 2)}


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """The results of each run; of the second process if there are two."""
    folder = tmp_path_factory.mktemp("runs")

    def run(name):
        count, processes = PLACES[name]
        environment = with_devices(count // processes)
        together = [f"127.0.0.1:{free_port()}", str(processes)] if processes > 1 else []
        children = []
        for index in range(processes):
            place = [*together, str(index)] if together else []
            command = ["-c", PROGRAM, folder / f"{name}_{index}.npz", *place]
            children.append(forked.start(command, environment))
        for child in children:
            _, errors = child.communicate(timeout=300)
            assert child.returncode == 0, errors
        arrays = dict(np.load(folder / f"{name}_{processes - 1}.npz"))
        results = json.loads(arrays.pop("results").item())
        assert results.pop("devices") == [count, count // processes]
        return results, arrays

    # More at a time would only wait for each other.
    with ThreadPoolExecutor(2) as pool:
        return dict(zip(PLACES, pool.map(run, PLACES), strict=True))


@pytest.mark.parametrize("accumulate", ["1", "2"])
@pytest.mark.parametrize("place", list(PLACES)[1:])
def test_any_number_of_devices_makes_the_update_of_one(runs, place, accumulate):
    (one, one_arrays), (many, many_arrays) = runs["1"], runs[place]
    # Below the heads the gradient passes ReLUs, and one whose input rounds to the other side of 0
    # changes it by percents.
    for name, tolerance in (("heads", 2e-5), ("stats", 2e-5), ("whole", 0.05)):
        expected, got = one_arrays[name + accumulate], many_arrays[name + accumulate]
        assert np.linalg.norm(got - expected) < tolerance * np.linalg.norm(expected), name
    for a, b in zip(one[accumulate]["log"], many[accumulate]["log"], strict=True):
        assert a["negatives"] == b["negatives"] > a["positives"] == b["positives"] > 0
    first, first_of_many = one[accumulate]["log"][0], many[accumulate]["log"][0]
    np.testing.assert_allclose(first["loss"], first_of_many["loss"], rtol=1e-6)


def test_the_loss_falls(runs):
    losses = [metrics["loss"] for metrics in runs["1"][0]["1"]["log"]]
    assert losses[-1] < losses[0]


@pytest.mark.parametrize("place", PLACES)
def test_steps_are_counted_compiled_once_and_reuse_the_memory_of_the_state(runs, place):
    before = 0
    for accumulate in ("1", "2"):
        result = runs[place][0][accumulate]
        assert result["step"] == 3
        assert result["log"][0]["given_up"]
        first, *later = [metrics["compilations"] for metrics in result["log"]]
        assert first > before
        assert later == [first, first]
        before = first


def test_the_main_process_saves_and_sends_the_restored_state(runs):
    assert runs["2 of each of 2"][0]["saved"] == [False, [3], 4]  # of the second process
