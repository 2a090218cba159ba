import json

from ssd_jax.config.schema import Config
from ssd_jax.training.metrics_writer import MetricsWriter, read_metrics


def started(workdir, step=0):
    writer = MetricsWriter()
    writer.start(Config(), workdir, step)
    return writer


def test_written_metrics_are_read_back(tmp_path):
    writer = started(tmp_path)
    writer.scalars(2, {"train/loss": 0.1, "train/positives": 3})
    writer.scalars(4, {"eval/mAP": None, "eval/AP50": float("inf")})
    # Before it is closed, as others look at it while training goes on.
    assert read_metrics(tmp_path) == [
        {"step": 2, "train/loss": 0.1, "train/positives": 3},
        {"step": 4, "eval/mAP": None, "eval/AP50": None},
    ]
    writer.end(None)


def test_lines_after_the_restored_step_are_removed(tmp_path):
    writer = started(tmp_path)
    for step in (2, 4, 6):
        writer.scalars(step, {"train/loss": float(step)})
    writer.end(None)
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"step": 8, "train/lo')
    assert [line["step"] for line in read_metrics(tmp_path)] == [2, 4, 6]

    writer = started(tmp_path, step=4)
    writer.scalars(6, {"train/loss": 60.0})
    writer.end(None)
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert lines == [{"step": s, "train/loss": loss} for s, loss in ((2, 2.0), (4, 4.0), (6, 60.0))]
