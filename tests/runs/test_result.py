from pathlib import Path

import pytest

from ssd_jax.evaluation.weakest import Weakest
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


def described(mean_aps, losses=(), num_objects=(), weakest=None):
    return describe_result(result(mean_aps, losses), num_objects, weakest).splitlines()


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
def test_the_end_says_what_was_best_and_what_to_do(mean_aps, told):
    lines = described(mean_aps)
    assert len(lines) == len(told)
    assert all(words in line for words, line in zip(told, lines, strict=True))


def test_of_few_objects_a_small_difference_is_chance():
    falling = (0.4, 0.6, 0.55)
    assert "longer training" in described(falling)[1] == described(falling, num_objects=MANY)[1]
    # 0.3 / sqrt(25) = 0.06
    assert not any("longer training" in line for line in described(falling, num_objects=(25,)))


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
def test_a_loss_that_has_risen_for_long_and_beyond_its_scatter_is_overfitting(losses, is_told):
    mean_aps = [0.4, *[0.6] * (len(losses) - 1)]
    told = [line for line in described(mean_aps, losses) if "overfitting" in line]
    assert bool(told) == is_told
    if is_told:
        assert "since step 40" in told[0] and "from 1.500 to 2.100" in told[0]


def test_from_noise_on_few_objects_nothing_is_concluded():
    assert described(NOISY_MEAN_APS, NOISY_LOSSES, (10,), DOG) == [
        "best of 10 evaluations: mAP 0.6793 at step 60",
        "only 10 objects to evaluate on: the mAP is uncertain by about ±25 points, and the best "
        "checkpoint was chosen on the same images, so it is probably too high",
        "try next: evaluating on more images, because this mAP is too uncertain for comparisons "
        "(config.data.split, config.data.eval)",
    ]


def test_the_weakest_class_is_told_and_one_advice_given():
    assert described((0.4,), weakest=DOG) == [DOG.description, f"try next: {DOG.advice}"]
    lines = described((0.4, 0.5), num_objects=MANY, weakest=DOG)
    assert lines[-2:] == [DOG.description, "try next: more steps"]


def test_the_commands_for_a_run_name_it():
    done, _, *commands = next_commands(result([0.5]), evaluates=True).splitlines()
    assert done == "done: checkpoints, metrics and pictures are in runs/my run"
    assert [line.split()[1] for line in commands] == ["predict", "evaluate", "export"]
    assert all(" --workdir='runs/my run' " in line for line in commands)
    assert "evaluate" not in next_commands(result([]), evaluates=False)
