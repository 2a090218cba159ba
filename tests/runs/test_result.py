from pathlib import Path

import pytest

from ssd_jax.config.schema import Config
from ssd_jax.evaluation.weakest import Weakest
from ssd_jax.runs.length import longer_command
from ssd_jax.runs.result import TrainResult, describe_result, next_commands, scatter

MANY = (10_000,)  # objects
DOG = Weakest("weakest class: dog", "more images of it")
# A training on 32 images, evaluated on 8 with 10 objects.
NOISY_MEAN_APS = (0.4205, 0.3532, 0.4293, 0.4686, 0.4432, 0.6793, 0.5539, 0.6025, 0.6236, 0.6204)
NOISY_LOSSES = (6.383, 6.768, 5.911, 8.271, 12.051, 8.930, 5.812, 6.677, 6.810, 6.496)
OVERFITTING = (4.0, 2.5, 1.8, 1.5, 1.6, 1.7, 1.8, 1.9, 2.0, 2.1)


def result(mean_aps, losses=()):
    metrics = {10 * i: {"eval/mAP": mean_ap} for i, mean_ap in enumerate(mean_aps, start=1)}
    for i, loss in enumerate(losses, start=1):
        metrics[10 * i]["eval/loss"] = loss
    rated = {step: values["eval/mAP"] for step, values in metrics.items() if any(values.values())}
    best = max(rated, key=lambda step: rated[step]) if rated else None
    metrics[5] = {"train/loss": 1.0}
    last = 10 * len(mean_aps)
    return TrainResult(Path("runs/my run"), last, metrics, best, rated[best] if best else None)


def described(mean_aps, losses=(), num_objects=(), weakest=None, **others):
    return describe_result(result(mean_aps, losses), num_objects, weakest, **others).splitlines()


@pytest.mark.parametrize(
    ("mean_aps", "told"),
    [
        ((), ()),
        ((0.5,), ()),
        ((None, None), ()),
        ((0.5, 0.505), ("mAP 0.5050 at step 20",)),
        ((0.4, 0.5), ("mAP 0.5000 at step 20", "still rising, by 0.1000", "try next: more steps")),
        ((0.4, 0.6, 0.595), ("mAP 0.6000 at step 20",)),
        (
            (0.4, 0.6, 0.5),
            ("mAP 0.6000 at step 20", "the last, at step 30, has 0.5000", "try next: fewer steps"),
        ),
    ],
)
def test_the_end_reports_the_best_result_and_the_next_command(mean_aps, told):
    lines = described(mean_aps)
    assert len(lines) == len(told)
    assert all(words in line for words, line in zip(told, lines, strict=True))


def test_checkpoints_within_the_uncertainty_are_not_ranked():
    falling, rising = (0.4, 0.6, 0.45), (0.4, 0.45, 0.6)
    assert "longer training" in described(falling)[1] == described(falling, num_objects=MANY)[1]
    assert "still rising" in described(rising, num_objects=MANY)[1]
    # With 40 objects it is 1.96 sqrt(p (1 - p) / 44) = 0.145, with p = 26 / 44; with 36, 0.152.
    assert "longer training" in described(falling, num_objects=(40,))[1]
    line = "the last, at step 30, has 0.4500: with 36 objects such a difference may be chance"
    assert described(falling, num_objects=(36,))[1] == line
    assert not any("rising" in each for each in described(rising, num_objects=(36,)))


def test_a_lower_loss_recommends_the_last_checkpoint():
    falling = (0.4, 0.6, 0.45)
    assert "longer training" in described(falling, (3.0, 2.0, 2.1), MANY)[1]
    assert described(falling, (3.0, 2.0, 1.9), MANY)[1] == (
        "the last, at step 30, has 0.4500; but its loss on the evaluation images is lower (1.900, "
        "not 2.000), so it may be the better one: try both on other images, the last with "
        "--checkpoint=last"
    )


def test_the_scatter_of_evaluations_leaves_out_their_course():
    assert scatter([0.1, 0.3, 0.5, 0.7, 0.9]) == pytest.approx(0)
    # Second differences of 4, -4 and 4; independent numbers have 6 times their own variance.
    assert scatter([1, -1, 1, -1, 1]) == pytest.approx(4 / 0.6745 / 6**0.5)
    assert scatter([1, -1, 1, -1]) == 0


@pytest.mark.parametrize(
    ("losses", "is_told"),
    [
        (OVERFITTING, True),
        (NOISY_LOSSES, False),
        # Risen for only two evaluations, by less than a tenth, and for too few to judge.
        ((4.0, 2.5, 1.8, 1.5, 1.4, 1.4, 1.4, 1.5, 2.0, 2.1), False),
        ((4.0, 2.5, 1.8, 1.5, 1.52, 1.54, 1.56, 1.58, 1.60, 1.62), False),
        ((1.0, 1.5, 2.0, 2.5), False),
    ],
)
def test_a_loss_that_rises_long_beyond_its_scatter_is_overfitting(losses, is_told):
    mean_aps = [0.4, *[0.6] * (len(losses) - 1)]
    told = [line for line in described(mean_aps, losses) if "overfitting" in line]
    assert bool(told) == is_told
    if is_told:
        assert "since step 40" in told[0] and "from 1.500 to 2.100" in told[0]


def test_noise_on_few_objects_gives_no_conclusion():
    assert described(NOISY_MEAN_APS, NOISY_LOSSES, (10,), DOG) == [
        "best of 10 evaluations: mAP 0.6793 at step 60",
        "the last, at step 100, has 0.6204: with 10 objects such a difference may be chance; but "
        "its loss on the evaluation images is lower (6.496, not 8.930), so it may be the better "
        "one: try both on other images, the last with --checkpoint=last",
        "only 10 objects to evaluate on: the mAP is uncertain by about ±25 points, and the best "
        "checkpoint was chosen on the same images, so it is probably too high",
        "try next: evaluating on more images, because this mAP is too uncertain for comparisons "
        "(config.data.split, config.data.eval)",
    ]


def test_the_weakest_class_is_reported_with_one_advice():
    assert described((0.4,), weakest=DOG) == [DOG.description, f"try next: {DOG.advice}"]
    lines = described((0.4, 0.5), num_objects=MANY, weakest=DOG)
    assert lines[-2:] == [DOG.description, "try next: more steps"]


def test_advice_on_more_steps_has_a_command_and_follows_missing_parts():
    others = {"longer": "ssd-jax train", "missing": "weights"}
    lines = described((0.4, 0.5), num_objects=MANY, **others)
    assert lines[-3:] == ["try next: weights", "try next: more steps", "  ssd-jax train"]
    assert described((0.4,), weakest=DOG, **others)[-1] == f"try next: {DOG.advice}"
    assert described((None,), **others) == ["try next: weights"]


@pytest.mark.parametrize(
    ("changes", "field", "command"),
    [
        ({"steps": 600}, "steps", "ssd-jax train --data=a --config.steps=1200 --change_config"),
        ({"epochs": 2.5}, "steps", "ssd-jax train --data=a --config.epochs=5 --change_config"),
        ({"patience": 2}, "patience", "ssd-jax train --data=a --config.patience=4 --change_config"),
    ],
)
def test_the_command_for_a_longer_run_equals_that_of_the_run(changes, field, command, monkeypatch):
    config = Config().replace(changes)
    given = ["train", "--data=a", "--change_config"]
    given += [f"--config.{name}={value}" for name, value in changes.items()]
    monkeypatch.setattr("sys.argv", ["/bin/ssd-jax", *given])
    assert longer_command(config, field) == command
    monkeypatch.setattr("sys.argv", ["/bin/ssd-jax", "sweep"])
    assert longer_command(config, field) == ""


def test_the_suggested_commands_name_the_run():
    done, _, *commands = next_commands(result([0.5]), evaluates=True).splitlines()
    place = "done: checkpoints, metrics and pictures are in runs/my run"
    assert done == f"{place}; pictures/detections.png is of step 10, the best"
    worse = result([0.5, 0.4])
    assert next_commands(worse, evaluates=True).splitlines()[0] == done
    of_last = next_commands(worse, evaluates=True, are_of_best=False)
    assert of_last.startswith(f"{place}; pictures/detections.png is of step 20\n")
    assert [line.split()[1] for line in commands] == ["predict", "evaluate", "export"]
    assert all(" --workdir='runs/my run' " in line for line in commands)
    assert "evaluate" not in next_commands(result([]), evaluates=False)
