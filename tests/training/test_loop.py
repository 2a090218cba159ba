"""The training loop, with steps that are not."""

import logging
import time

import numpy as np

from ssd_jax.training.guard import Guard
from ssd_jax.training.interruption import Interruption
from ssd_jax.training.loop import train_loop
from ssd_jax.training.state import TrainState


class Number:
    """A metric on a device that tells when it is waited for or read, and by which step."""

    def __init__(self, value, seen):
        self.value, self.seen = value, seen

    def block_until_ready(self):
        self.seen("waited")
        return self

    def addressable_data(self, index):
        assert index == 0
        self.seen("read")
        return np.float32(self.value)

    def __getattr__(self, name):
        raise AssertionError(f"the loop asks a metric for {name}")


class NoCheckpoints:
    def save(self, state, progress):
        pass

    def wait(self):
        pass


class Writer:
    def __init__(self):
        self.lines = []

    def scalars(self, step, values):
        self.lines.append((step, values))


def run(steps=12, log_every=5):
    """When the numbers of which step were looked at, and what was written."""
    looked, taken, writer = [], [], Writer()

    def train_step(state, batch):
        number = len(taken) + 1
        taken.append(number)
        metrics = {
            name: Number(number, lambda how: looked.append((how, number, len(taken))))
            for name in ("loss", "gradient_norm")
        }
        return state, metrics

    image = np.zeros((1, 2, 2, 3), np.uint8)
    batch = {name: image for name in ("image", "window", "boxes", "labels")}
    state = TrainState(step=np.int32(0), parameters={}, averaged={}, batch_stats={}, opt_state={})
    with Interruption() as interruption:
        train_loop(
            state,
            train_step,
            iter([batch | {"dropped": np.zeros(1, np.int32)}] * (steps + 2)),
            steps=steps,
            batch_size=1,
            schedule=lambda step: 0.1,
            checkpoints=NoCheckpoints(),
            guard=Guard("stop", 0, lambda step: 0.1, lambda *_: ""),
            interruption=interruption,
            writer=writer,
            evaluate=None,
            evaluated=False,
            progress={},
            log_every=log_every,
            checkpoint_every=1000,
            eval_every=0,
            began=time.perf_counter(),
        )
    return looked, writer.lines


def test_it_waits_for_the_device_after_the_first_step_and_at_log_lines_alone():
    looked, lines = run()
    assert [step for step, _ in lines] == [5, 10, 12]
    assert [values["train/loss"] for _, values in lines] == [3, 8, 11.5]
    # After how many steps numbers were waited for or read: the first step compiles.
    assert {(how, after) for how, _, after in looked} == {
        ("waited", 1),
        *(("read", step) for step in (5, 10, 12)),
    }
    assert [of for how, of, _ in looked if how == "waited"] == [1, 1]


def test_it_tells_how_long_the_first_step_took(caplog):
    with caplog.at_level(logging.INFO, "ssd_jax"):
        run(steps=1)
    assert caplog.text.count("first step after") == 1
