import logging
import math

import pytest

from ssd_jax.errors import UserError
from ssd_jax.training.guard import Guard


def guard(on_nonfinite="stop", max_skipped=0, skipped=0):
    saved = []

    def save_batch(step, numbers):
        saved.append(numbers)
        return f"its batch (one, two) is in nonfinite/{step}"

    rate = lambda step: 0.001 * step  # noqa: E731
    return Guard(on_nonfinite, max_skipped, rate, save_batch, skipped), saved


def numbers(loss=1.0, norm=2.0, update=0.1, positives=3.0):
    return {
        "loss": loss,
        "gradient_norm": norm,
        "update_norm": update,
        "positives": positives,
    }


@pytest.mark.parametrize(("loss", "norm"), [(math.nan, 2.0), (1.0, math.inf), (-math.inf, 0.0)])
def test_the_error_has_all_known_numbers(loss, norm):
    watch, saved = guard()
    assert watch.observe(6, numbers())
    with pytest.raises(UserError) as error:
        watch.observe(7, numbers(loss, norm))
    for part in ("step 7", f"loss is {loss:g}", f"gradient {norm:g}", "0.006", "(one, two)"):
        assert part in str(error.value)
    assert "nonfinite/7" in str(error.value) and "on_nonfinite" in str(error.value)
    assert saved[0]["step"] == 7 and saved[0]["learning_rate"] == pytest.approx(0.006)
    assert str(saved[0]["loss"]) == str(loss) and saved[0]["gradient_norm"] == norm


def test_only_the_allowed_number_of_updates_is_skipped(caplog):
    watch, saved = guard("skip", max_skipped=3, skipped=1)
    with caplog.at_level(logging.WARNING, "ssd_jax"):
        assert not watch.observe(5, numbers(loss=math.nan))
        assert watch.observe(6, numbers())
        assert not watch.observe(7, numbers(norm=math.nan))
    assert watch.skipped == 3 and [each["step"] for each in saved] == [5, 7]
    assert (
        "step 5" in caplog.text
        and "2 of at most 3" in caplog.text
        and "3 of at most 3" in caplog.text
    )
    with pytest.raises(UserError, match=r"step 8: .* 4 updates .* config.max_skipped is 3"):
        watch.observe(8, numbers(loss=math.nan))


def test_spikes_of_the_loss_are_reported(caplog):
    watch, _ = guard()
    with caplog.at_level(logging.WARNING, "ssd_jax"):
        watch.observe(1, numbers(loss=100.0))  # with nothing to compare it with
        for step in range(2, 30):
            watch.observe(step, numbers(loss=2.0 + 0.01 * step))
        assert not caplog.text
        watch.observe(30, numbers(loss=30.0, norm=17.0))
    assert "step 30: the loss is 30" in caplog.text and "norm of the gradient 17" in caplog.text


def test_an_update_that_is_not_finite_stops():
    watch, saved = guard()
    with pytest.raises(UserError, match=r"step 1: .* that of the update inf"):
        watch.observe(1, numbers(update=math.inf))
    assert saved[0]["update_norm"] == math.inf


def test_steps_without_objects_are_reported(caplog):
    watch, _ = guard()
    for step in range(1, 250):
        watch.observe(step, numbers(positives=0.0))
    told = [record.getMessage() for record in caplog.records]
    assert [message.split(":")[0] for message in told] == [
        f"no object in the training images of {steps} steps, so no class can be learned"
        for steps in (50, 100, 200)
    ]
    caplog.clear()
    watch.observe(250, numbers())
    for step in range(251, 600):
        watch.observe(step, numbers(positives=0.0))
    assert not caplog.records
