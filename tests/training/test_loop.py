"""The training loop, with replaced steps."""

import logging

import numpy as np
import pytest

from ssd_jax.config.schema import as_config
from ssd_jax.training.checkpoints import Progress
from ssd_jax.training.guard import Guard
from ssd_jax.training.hooks import Hook, Hooks, StopTraining
from ssd_jax.training.interruption import Interruption
from ssd_jax.training.interval import Interval
from ssd_jax.training.loop import train_loop
from ssd_jax.training.optimizer import make_schedule
from ssd_jax.training.run import Run, patience_ends
from ssd_jax.training.state import TrainState
from tests import tiny

METRICS = ("loss", "gradient_norm", "update_norm", "positives")


class Number:
    """A metric on a device that reports when, and in which step, it is awaited or read."""

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

    wait_together = wait


class Lines(Hook):
    """Records its calls, and may end the run after a step."""

    def __init__(self, last_step=None):
        self.last_step, self.lines = last_step, []

    def scalars(self, step, values):
        self.lines.append((step, values))
        if step == self.last_step:
            raise StopTraining("enough")


def run(steps=12, log_every=5, last_step=None, checkpoints=None, evaluate=None, num_images=0):
    """Runs the loop; returns the steps at which numbers were read, and the calls of hooks."""
    looked, taken, rates, hook = [], [], [], Lines(last_step)

    def train_step(state, batch, numbers):
        rates.append(numbers.learning_rate)
        number = len(taken) + 1
        taken.append(number)
        metrics = {
            name: Number(number, lambda how: looked.append((how, number, len(taken))))
            for name in METRICS
        }
        return state._replace(step=np.int32(number)), metrics

    image = np.zeros((1, 2, 2, 3), np.uint8)
    batch = {name: image for name in ("image", "window", "boxes", "labels")}
    state = TrainState(step=np.int32(0), parameters={}, averaged={}, batch_stats={}, opt_state={})
    config = as_config(tiny.get_config()).replace(
        {"steps": steps, "log_every": log_every, "checkpoint_every": 1000, "batch_size": 1}
    )
    with Interruption() as interruption:
        train_loop(
            state,
            train_step,
            iter([batch | {"dropped": np.zeros(1, np.int32)}] * (steps + 2)),
            Run(
                config=config,
                schedule=lambda step: 0.1,
                checkpoints=checkpoints or NoCheckpoints(),
                guard=Guard("stop", 0, lambda step: 0.1, lambda *_: ""),
                interruption=interruption,
                hooks=Hooks(given=[hook]),
                evaluate=evaluate,
                num_images=num_images,
            ),
        )
    # Each step has the learning rate of those that were done before.
    schedule = make_schedule(config)
    np.testing.assert_allclose(rates, [schedule(step) for step in range(len(rates))], rtol=1e-6)
    return looked, hook.lines


def test_two_steps_are_in_flight_except_after_the_first_step_and_at_log_lines():
    looked, lines = run()
    assert [step for step, _ in lines] == [5, 10, 12]
    assert [values["train/loss"] for _, values in lines] == [3, 8, 11.5]
    # Which step was waited for after how many steps: the first step compiles.
    waited = {(number, after) for how, number, after in looked if how == "waited"}
    assert waited == {(1, 1), (1, 3), (2, 4), (3, 5), (6, 8), (7, 9), (8, 10)}
    assert {after for how, _, after in looked if how == "read"} == {5, 10, 12}


def test_a_hook_ends_the_run_after_its_step_is_saved(caplog):
    saved = []

    class Checkpoints(NoCheckpoints):
        def save(self, state, progress):
            saved.append(int(state.step))

    with caplog.at_level(logging.INFO, "ssd_jax"):
        looked, lines = run(last_step=5, checkpoints=Checkpoints())
    assert saved == [step for step, _ in lines] == [5] == [max(of for _, of, _ in looked)]
    assert "enough: the run ends at step 5 of 12" in caplog.text


def test_the_time_of_the_first_step_is_reported(caplog):
    with caplog.at_level(logging.INFO, "ssd_jax"):
        run(steps=1)
    assert caplog.text.count("first step after") == 1


def test_the_bar_names_the_epoch_of_its_step_and_not_of_the_last_line(monkeypatch, capsys):
    monkeypatch.setenv("TQDM_MININTERVAL", "0")
    run(num_images=4)  # one image a step
    lines = capsys.readouterr().err.splitlines()
    (line,) = [line for line in lines if " 6/12 " in line]
    assert "loss 3.000, epoch 1.5 of 3.0" in line
    # The remaining time follows "<", from the first line of metrics on, after step 5.
    estimated = {
        step for step in range(1, 13) if any(f" {step}/12 [" in x and "<" in x for x in lines)
    }
    assert estimated == set(range(5, 13))


def test_the_time_of_the_other_steps_is_reported_once(caplog):
    caplog.set_level("INFO", "ssd_jax")
    config = as_config(tiny.get_config()).replace({"steps": 1520, "batch_size": 8})
    told = Run(config, lambda step: 0.1, NoCheckpoints(), *[None] * 2)
    for step, images_per_second in ((1, np.nan), (20, 10.0), (40, 11.0)):
        told.log_remaining_time(step, images_per_second)
    # 1,500 steps of 8 images, 10 images a second.
    line = "about 20 minutes for the other 1,500 steps at this speed, evaluations not included"
    assert caplog.messages == [line]


def test_reading_an_interval_does_not_change_it():
    guard = Guard("stop", 0, lambda step: 0.1, lambda *_: "")
    interval = Interval(guard, 3, Progress(dropped=2))
    for value in (1.0, 2.0):
        metrics = {name: Number(value, lambda how: None) for name in METRICS}
        interval.add(metrics, dropped=5)
    assert "loss" not in interval.means()  # nothing was read from the device yet
    interval.catch_up()
    for _ in range(2):
        assert interval.means() == {
            "loss": 1.5,
            "gradient_norm": 1.5,
            "update_norm": 1.5,
            "positives": 1.5,
            "objects_dropped": 12,
            "updates_skipped": 0,
        }
        assert interval.progress().values == [dict.fromkeys(METRICS, value) for value in (1.0, 2.0)]
    saved = interval.progress()
    interval.restart()
    assert interval.means() == {"objects_dropped": 0, "updates_skipped": 0}
    assert len(saved.values) == 2 and interval.progress().all_dropped == 10


@pytest.mark.parametrize(
    "changes, evaluated, logged, saved",
    [
        ({"eval_every": 12}, {12}, {5, 10, 12}, {4, 8, 12}),
        ({"eval_every": 20}, {12}, {5, 10, 12}, {4, 8, 12}),
        ({"eval_every": 0}, {2, 4, 6, 8, 10, 12}, {5, 10, 12}, {2, 4, 6, 8, 10, 12}),
        ({"eval_every": 3}, {3, 6, 9, 12}, {5, 10, 12}, {3, 4, 6, 8, 9, 12}),
        ({"eval_every": 5, "log_every": 6}, {5, 10, 12}, {6, 12}, {4, 5, 8, 10, 12}),
    ],
)
def test_actions_after_each_step(changes, evaluated, logged, saved):
    fields = {"steps": 12, "log_every": 5, "checkpoint_every": 4} | changes
    config = as_config(tiny.get_config()).replace(fields)
    guard = Guard("stop", 0, lambda step: 0.1, lambda *_: "")
    run = Run(config, lambda step: 0.1, NoCheckpoints(), guard, Interruption(), evaluate=dict)
    steps = range(1, 13)
    assert {step for step in steps if run.evaluation_is_due(step)} == evaluated
    assert {step for step in steps if run.logging_is_due(step)} == logged
    assert {step for step in steps if run.checkpoint_is_due(step)} == saved
    run.evaluate = None
    assert not any(map(run.evaluation_is_due, steps))


@pytest.mark.parametrize(
    "mean_aps, patience, ends",
    [
        ((0.1, 0.3, 0.2, 0.3), 2, True),  # as high again is not higher
        ((0.1, 0.3, 0.2, 0.3), 3, False),
        ((0.1, 0.3, 0.2, 0.4), 2, False),
        ((0.3, None, 0.2), 2, False),
        ((0.3, None, 0.2, 0.1), 2, True),
        ((None, None, None), 1, False),
        ((), 1, False),
        ((0.9, 0.1, 0.1, 0.1), 0, False),
    ],
)
def test_patience_counts_evaluations_since_the_best(mean_aps, patience, ends):
    evaluations = {10 * i: mean_ap for i, mean_ap in enumerate(mean_aps)}
    assert patience_ends(dict(reversed(evaluations.items())), patience) == ends


@pytest.mark.parametrize("mean_ap, rated", [(0.0, [(3, 0.0)]), (None, [])])
def test_a_checkpoint_without_a_map_is_not_rated(mean_ap, rated):
    ratings, hook = [], Lines()

    class Checkpoints(NoCheckpoints):
        def rate(self, step, mean_ap):
            ratings.append((step, mean_ap))

    with Interruption() as interruption:
        Run(
            config=as_config(tiny.get_config()),
            schedule=lambda step: 0.1,
            checkpoints=Checkpoints(),
            guard=Guard("stop", 0, lambda step: 0.1, lambda *_: ""),
            interruption=interruption,
            hooks=Hooks([hook]),
            evaluate=lambda state: {"mAP": mean_ap},
        ).run_evaluation(3, None)
    assert ratings == rated and hook.lines == [(3, {"eval/mAP": mean_ap})]
