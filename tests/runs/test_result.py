from pathlib import Path

import pytest

from ssd_jax.runs.result import TrainResult, describe_result


def described(mean_aps):
    metrics = {10 * i: {"eval/mAP": mean_ap} for i, mean_ap in enumerate(mean_aps, start=1)}
    rated = {step: values["eval/mAP"] for step, values in metrics.items() if any(values.values())}
    best = max(rated, key=lambda step: rated[step]) if rated else None
    metrics[5] = {"train/loss": 1.0}
    last = 10 * len(mean_aps)
    *told, done = describe_result(
        TrainResult(Path("runs/mine"), last, metrics, best, rated.get(best))
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
    if len(told) == 2 and "last" in told[1]:
        assert "--checkpoint=20" in lines[1]
