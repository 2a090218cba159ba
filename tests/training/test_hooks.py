"""The calls of hooks, and the end of hooks."""

from pathlib import Path

import numpy as np
import pytest

from ssd_jax.config.schema import Config
from ssd_jax.errors import UserError
from ssd_jax.training.hooks import Hook, Hooks, StopTraining


class Told(Hook):
    """Records its calls."""

    def __init__(self, calls, error=None):
        self.calls, self.error = calls, error

    def start(self, config, workdir, step):
        self.calls.append((self, "start", workdir, step))

    def scalars(self, step, values):
        self.calls.append((self, "scalars", step, values))
        if self.error:
            raise self.error

    def image(self, step, name, picture):
        self.calls.append((self, "image", step, name, picture.shape))

    def end(self, error):
        self.calls.append((self, "end", error))


def test_all_hooks_are_called_in_order_even_if_one_ends_the_run():
    calls = []
    own, first, second = Told(calls), Told(calls, StopTraining()), Told(calls, StopTraining("late"))
    with Hooks([own], [first, second]) as hooks:
        hooks.start(Config(), Path("run"), 3)
        assert hooks.scalars(4, {"train/loss": 1.0}) == "Told ended it"
        hooks.image(4, "training", np.zeros((2, 3, 3), np.uint8))
    told = [
        ("start", Path("run"), 3),
        ("scalars", 4, {"train/loss": 1.0}),
        ("image", 4, "training", (2, 3, 3)),
    ]
    assert calls == [
        *((hook, *call) for call in told for hook in (own, first, second)),
        *((hook, "end", None) for hook in (second, first, own)),
    ]


def test_an_error_reaches_the_caller_and_all_started_hooks():
    calls, error = [], ValueError("wrong")

    class Refuses(Hook):
        def start(self, config, workdir, step):
            raise error

        def end(self, error):
            raise AssertionError("never started")

    with pytest.raises(ValueError, match="wrong"), Hooks([Told(calls)], [Refuses()]) as hooks:
        hooks.start(Config(), Path("run"), 0)
    assert [call[1:] for call in calls] == [("start", Path("run"), 0), ("end", error)]


def test_a_hook_may_leave_out_every_method():
    with Hooks(given=[Hook()]) as hooks:
        hooks.start(Config(), Path("run"), 0)
        assert hooks.scalars(1, {}) == ""


def test_a_hook_must_be_an_object_not_a_class():
    with pytest.raises(UserError, match=r"the class Told: give an object of it, Told\(…\)"):
        Hooks([], [Told])
