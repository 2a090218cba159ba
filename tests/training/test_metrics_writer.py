import json

import numpy as np
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from ssd_jax.training.metrics_writer import MetricsWriter, read_metrics


def test_what_is_written_can_be_read(tmp_path):
    writer = MetricsWriter(tmp_path)
    writer.scalars(2, {"train/loss": 0.1, "train/positives": 3})
    writer.image(2, "picture", np.full((4, 6, 3), 7, np.uint8))
    writer.scalars(4, {"train/loss": 1 / 3})
    # Before it is closed, as others look at it while training goes on.
    assert read_metrics(tmp_path) == [
        {"step": 2, "train/loss": 0.1, "train/positives": 3},
        {"step": 4, "train/loss": 1 / 3},
    ]
    writer.close()
    curves = EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    points = [(point.step, point.value) for point in curves.Scalars("train/loss")]
    np.testing.assert_allclose(points, [(2, 0.1), (4, 1 / 3)], rtol=1e-6)
    assert (curves.Images("picture")[0].width, curves.Images("picture")[0].height) == (6, 4)


def test_a_number_that_there_is_not_is_null_and_no_point(tmp_path):
    writer = MetricsWriter(tmp_path)
    writer.scalars(2, {"eval/mAP": None, "eval/AP50": 0.5})
    writer.close()
    assert read_metrics(tmp_path) == [{"step": 2, "eval/mAP": None, "eval/AP50": 0.5}]
    curves = EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    assert curves.Tags()["scalars"] == ["eval/AP50"]


def test_what_a_run_that_was_cut_off_wrote_too_much_is_taken_out(tmp_path):
    writer = MetricsWriter(tmp_path)
    for step in (2, 4, 6):
        writer.scalars(step, {"train/loss": float(step)})
    writer.close()
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"step": 8, "train/lo')
    assert [line["step"] for line in read_metrics(tmp_path)] == [2, 4, 6]

    writer = MetricsWriter(tmp_path, first_step=4)
    writer.scalars(6, {"train/loss": 60.0})
    writer.close()
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert lines == [{"step": s, "train/loss": loss} for s, loss in ((2, 2.0), (4, 4.0), (6, 60.0))]
    curve = EventAccumulator(str(tmp_path / "tensorboard")).Reload().Scalars("train/loss")
    assert [(point.step, point.value) for point in curve] == [(2, 2.0), (4, 4.0), (6, 60.0)]
