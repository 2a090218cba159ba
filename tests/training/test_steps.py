"""The train step on one and on four simulated devices, each in a process of its own."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest

PROGRAM = """
import json, sys
import jax, numpy as np
from ssd_jax import parallel
from ssd_jax.models.network import build_network
from ssd_jax.training.optimizer import sgd
from ssd_jax.training.state import initial_state
from ssd_jax.training.steps import make_train_step
from tests import tiny

network = build_network(tiny.get_config().model, num_classes=5)
optimizer = sgd(lambda step: 1e-2, momentum=0.9, weight_decay=5e-4)
state = parallel.replicate(initial_state(*network.init(seed=0), optimizer))
train_step = parallel.pmap_train_step(make_train_step(network, optimizer, seed=1))

random = np.random.default_rng(0)
corner = random.uniform(0, 0.6, (8, 5, 2))
size = random.uniform(0.1, 0.4, (8, 5, 2))
labels = random.integers(1, 6, (8, 5)).astype(np.int32)
labels[:3] = 0  # images without objects: devices have very different numbers of positives
batch = {
    "image": random.integers(0, 256, (8, 64, 64, 3), dtype=np.uint8),
    "window": np.tile([0.0, 0.0, 0.8, 1.0], (8, 1)).astype(np.float32),
    "boxes": np.concatenate([corner, corner + size], axis=-1).astype(np.float32),
    "labels": labels,
}
compilations, log = [], []
jax.monitoring.register_event_duration_secs_listener(
    lambda event, *_, **__: compilations.append(event) if "backend_compile" in event else None
)
for _ in range(3):
    state, metrics = train_step(state, parallel.shard(batch))
    log.append(parallel.to_host(metrics))
    log[-1]["compilations"] = len(compilations)
parameters = parallel.to_host(state.parameters)
batch_stats = parallel.to_host(state.batch_stats)
print(json.dumps({
    "devices": jax.device_count(),
    "step": int(state.step),
    "log": [{key: float(value) for key, value in metrics.items()} for metrics in log],
    "norms": [float(np.linalg.norm(x)) for x in jax.tree.leaves((parameters, batch_stats))],
}))
"""


@pytest.fixture(scope="module")
def runs():
    def run(devices):
        environment = os.environ | {
            "XLA_FLAGS": f"--xla_force_host_platform_device_count={devices}",
            "JAX_PLATFORMS": "cpu",
        }
        output = subprocess.run(
            [sys.executable, "-c", PROGRAM],
            env=environment,
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        return json.loads(output.splitlines()[-1])

    return run(1), run(4)


def test_four_devices_make_the_update_of_one(runs):
    one, four = runs
    assert (one["devices"], four["devices"]) == (1, 4)
    for a, b in zip(one["log"], four["log"], strict=True):
        assert a["positives"] == b["positives"] > 0
        np.testing.assert_allclose(a["loss"], b["loss"], rtol=1e-5)
    np.testing.assert_allclose(one["norms"], four["norms"], rtol=1e-4)


def test_the_loss_is_the_sum_of_its_parts_and_falls(runs):
    log = runs[0]["log"]
    for metrics in log:
        np.testing.assert_allclose(
            metrics["loss"], metrics["loc_loss"] + metrics["conf_loss"], rtol=1e-5
        )
    assert log[-1]["loss"] < log[0]["loss"]


def test_steps_are_counted_and_compiled_once(runs):
    for run in runs:
        assert run["step"] == 3
        first, *later = [metrics["compilations"] for metrics in run["log"]]
        assert first > 0
        assert later == [first, first]
