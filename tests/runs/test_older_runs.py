"""Runs of earlier versions continue: they detect, evaluate and train with the same results.

`tests/reference/run_of_format_1.tar.xz` has a run of format 1 that was interrupted after step 2 of
4. Its `metrics.jsonl` is from the uninterrupted run, for comparison.
"""

import json
import tarfile

import numpy as np
import pytest

from ssd_jax import Detector
from ssd_jax.config.saved import FORMAT
from ssd_jax.errors import UserError
from ssd_jax.runs.evaluate import EvaluationOptions, evaluate
from ssd_jax.runs.train import train
from ssd_jax.runs.trained import load_workdir
from ssd_jax.runs.workdir import read_config
from tests.helpers.reference_results import CARRIED

TIMES = "train/images_per_second"
# What these versions did not write, beside the metric that they did.
LATER = {"train/loss": {"train/update_norm", "train/epoch"}, "eval/mAP": {"eval/loss"}}


@pytest.fixture
def older_run(tmp_path):
    with tarfile.open(CARRIED / "run_of_format_1.tar.xz") as archive:
        # Python 3.11.3 and older know no filters, and leave this alone.
        archive.extraction_filter = getattr(tarfile, "data_filter", None)
        archive.extractall(tmp_path)
    return tmp_path / "run"


def lines_of(workdir):
    return [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]


def change_recorded(workdir, **values):
    """Writes other values into `config.json`; None takes a field out."""
    file = workdir / "config.json"
    config = json.loads(file.read_text()) | values
    file.write_text(
        json.dumps({name: value for name, value in config.items() if value is not None})
    )


def test_an_older_run_detects(older_run):
    trained = load_workdir(older_run)
    assert trained.class_names == ("circle", "cross", "square", "star", "triangle")
    config = read_config(older_run)
    assert config.model.strides == (8, 16, 32, 64)
    assert config.loss.match_iou_threshold == 0.5 and config.detection.nms_iou_threshold == 0.45
    image = np.random.default_rng(0).integers(0, 256, (48, 64, 3), np.uint8)
    found = Detector.from_workdir(older_run)(image)
    assert len(found.boxes) == len(found.scores) > 0


def test_the_checkpoint_of_an_older_run_is_evaluated(older_run, tmp_path):
    output = tmp_path / "results.json"
    options = EvaluationOptions(output=output)
    evaluate(read_config(older_run), older_run, checkpoint=2, options=options)
    summary = json.loads(output.read_text())
    assert summary["num_images"] == 6 and 0 <= summary["mAP"] <= 1
    assert json.loads((older_run / "format.json").read_text()) == {"format": 1}  # only read


@pytest.mark.slow
def test_an_older_run_continues_to_its_recorded_end(older_run):
    recorded = lines_of(older_run)
    result = train(read_config(older_run).replace({"eval_every": 4}), older_run, True)
    reached = lines_of(older_run)
    assert (result.workdir, result.last_step, result.best_step) == (older_run, 4, 4)
    assert result.best_mean_ap == reached[2]["eval/mAP"] == result.metrics[4]["eval/mAP"]
    assert {"step": 4} | result.metrics[4] == reached[1] | reached[2]
    assert train(read_config(older_run), older_run) == result  # there is nothing left to do
    assert [line["step"] for line in reached] == [2, 4, 4] and reached[0] == recorded[0]
    for ours, theirs in zip(reached[1:], recorded[1:], strict=True):
        (later,) = (names for metric, names in LATER.items() if metric in theirs)
        assert set(ours) == set(theirs) | later
        expected = {name: value for name, value in theirs.items() if name != TIMES}
        given = {name: ours[name] for name in expected}
        assert given == pytest.approx(expected, rel=1e-3, abs=1e-3)
    assert json.loads((older_run / "format.json").read_text()) == {"format": FORMAT}
    written = json.loads((older_run / "config.json").read_text())
    assert "published" not in written and written["model"]["strides"] == [8, 16, 32, 64]
    starts = map(json.loads, (older_run / "starts.jsonl").read_text().splitlines())
    assert [start["step"] for start in starts] == [0, 2]


def test_a_changed_value_is_rejected_with_its_current_name(older_run):
    config = read_config(older_run).replace({"loss.match_iou_threshold": 0.6})
    with pytest.raises(UserError, match=r"config\.loss\.match_iou_threshold from 0\.5 to 0\.6"):
        train(config, str(older_run))


def test_a_field_that_is_not_recorded_has_its_default(older_run):
    change_recorded(older_run, max_skipped=None, clip_norm=None)
    config = read_config(older_run)
    assert config.max_skipped == 10 and config.clip_norm == 0
    with pytest.raises(UserError, match=r"config\.clip_norm from 0\.0 to 1\.0") as error:
        train(config.replace({"clip_norm": 1.0}), str(older_run))
    assert "max_skipped" not in str(error.value)
