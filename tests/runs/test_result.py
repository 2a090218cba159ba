from pathlib import Path

import pytest

from ssd_jax.runs.result import TrainResult, describe_result


def described(mean_aps, losses=(), num_objects=0, weakest=""):
    metrics = {10 * i: {"eval/mAP": mean_ap} for i, mean_ap in enumerate(mean_aps, start=1)}
    for i, loss in enumerate(losses, start=1):
        metrics[10 * i]["eval/loss"] = loss
    rated = {step: values["eval/mAP"] for step, values in metrics.items() if any(values.values())}
    best = max(rated, key=lambda step: rated[step]) if rated else None
    metrics[5] = {"train/loss": 1.0}
    last = 10 * len(mean_aps)
    *told, done = describe_result(
        TrainResult(Path("runs/mine"), last, metrics, best, rated.get(best)), num_objects, weakest
    ).splitlines()
    assert done == "done: checkpoints, metrics and pictures are in runs/mine"
    return told


@pytest.mark.parametrize(
    ("mean_aps", "told"),
    [
        ((), ()),
        ((0.5,), ()),
        ((None, None), ()),
        ((0.5, 0.505), ("mAP 0.5050 at step 20",)),
        ((0.4, 0.5), ("mAP 0.5000 at step 20", "still rising, by 0.1000")),
        ((0.4, 0.6, 0.595), ("mAP 0.6000 at step 20",)),
        ((0.4, 0.6, 0.5), ("mAP 0.6000 at step 20", "the last, at step 30, has 0.5000")),
    ],
)
def test_the_end_says_what_was_best_and_what_to_do(mean_aps, told):
    lines = described(mean_aps)
    assert len(lines) == len(told)
    assert all(words in line for words, line in zip(told, lines, strict=True))


def test_of_few_objects_a_small_difference_is_chance():
    falling = (0.4, 0.6, 0.55)
    assert len(described(falling, num_objects=10_000)) == len(described(falling)) == 2
    assert len(described(falling, num_objects=25)) == 1  # 0.3 / sqrt(25) = 0.06


@pytest.mark.parametrize(
    ("losses", "is_told"),
    [((2.0, 1.0, 1.09), False), ((2.0, 1.0, 1.2), True), ((2.0, 1.5, 1.0), False)],
)
def test_a_loss_that_rises_on_evaluation_images_is_overfitting(losses, is_told):
    told = [line for line in described((0.4, 0.6, 0.6), losses) if "overfitting" in line]
    assert bool(told) == is_told
    if is_told:
        assert "since step 20" in told[0] and "from 1.000 to 1.200" in told[0]


def test_the_weakest_class_is_told():
    assert described((0.4, 0.5), weakest="weakest class: dog")[-1] == "weakest class: dog"
    assert described((0.4,), weakest="weakest class: dog") == ["weakest class: dog"]
