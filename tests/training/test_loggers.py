"""Each logger on this machine, alone: TensorBoard's files, W&B offline, MLflow in a folder."""

import re
import sys

import numpy as np
import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from ssd_jax.config.schema import LOGGERS as NAMES
from ssd_jax.config.schema import Config
from ssd_jax.errors import Interrupted, UserError
from ssd_jax.training.loggers import LOGGERS, make_loggers

PICTURE = np.full((4, 6, 3), 7, np.uint8)


def make(name):
    (logger,) = make_loggers(Config(loggers=name))
    return logger


def log_twice(name, workdir):
    """A run that was interrupted after step 6, and continued from step 4."""
    workdir.mkdir()
    first = make(name)
    first.start(Config(loggers=name), workdir, 0)
    first.image(0, "training", PICTURE)
    for step in (2, 4, 6):
        first.scalars(step, {"train/loss": float(step), "eval/mAP": None})
    first.end(Interrupted("SIGTERM"))
    second = make(name)
    second.start(Config(loggers=name, steps=7), workdir, 4)
    second.scalars(6, {"train/loss": 60.0, "train/rate": float("nan")})
    second.end(None)


def test_every_name_of_the_config_has_its_logger():
    assert tuple(LOGGERS) == NAMES
    assert make_loggers(Config(loggers="")) == []


def test_tensorboard_shows_one_curve(tmp_path):
    log_twice("tensorboard", tmp_path / "run")
    curves = EventAccumulator(str(tmp_path / "run" / "tensorboard")).Reload()
    assert curves.Tags()["scalars"] == ["train/loss"]  # nothing where there is no number
    points = [(point.step, point.value) for point in curves.Scalars("train/loss")]
    assert points == [(2, 2.0), (4, 4.0), (6, 60.0)]
    assert (curves.Images("training")[0].width, curves.Images("training")[0].height) == (6, 4)


@pytest.mark.slow
def test_wandb_continues_the_same_run_offline(tmp_path, monkeypatch):
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")
    log_twice("wandb", tmp_path / "run")
    import wandb

    wandb.teardown()  # waits for its process, which writes a run of a known id in the background
    first, second = sorted((tmp_path / "run").glob("wandb/offline-run-*/run-*.wandb"))
    assert first.name == second.name
    for file, losses in ((first, [2, 4, 6]), (second, [60])):
        content = file.read_bytes()
        # The name, its field, the length of the value, and the value in JSON.
        found = re.finditer(rb"train/loss\x82\x01(.)", content, re.DOTALL)
        logged = [float(content[match.end() :][: match[1][0]]) for match in found]
        assert list(dict.fromkeys(logged)) == losses
        assert b"eval/mAP" not in content and b"train/rate" not in content
        assert b"ssd_jax" in content  # the project
    assert len(list(first.parent.glob("files/media/images/training_*.png"))) == 1


@pytest.mark.slow
def test_mlflow_continues_the_same_run_in_a_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"file:{tmp_path / 'mlruns'}")
    log_twice("mlflow", tmp_path / "run")
    import mlflow

    client = mlflow.MlflowClient()
    experiment = client.get_experiment_by_name("ssd_jax")
    (run,) = client.search_runs([experiment.experiment_id])
    assert (run.info.run_name, run.info.status) == ("run", "FINISHED")
    assert run.data.params["model.image_size"] == "300" and set(run.data.metrics) == {"train/loss"}
    history = client.get_metric_history(run.info.run_id, "train/loss")
    assert [(point.step, point.value) for point in history] == [(2, 2), (4, 4), (6, 6), (6, 60)]
    names = {file.path for file in client.list_artifacts(run.info.run_id)}
    assert names == {"config.json", "images"}

    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"file:{tmp_path / 'other'}")
    with pytest.raises(
        UserError, match=r"MLflow cannot be used: .*remove .*loggers\.json to begin"
    ):
        make("mlflow").start(Config(loggers="mlflow"), tmp_path / "run", 4)


@pytest.mark.parametrize("package", ["wandb", "mlflow", "tensorboardX"])
def test_a_missing_package_is_named_with_its_command(package, monkeypatch):
    monkeypatch.setitem(sys.modules, package, None)
    (name,) = [name for name, logger in LOGGERS.items() if logger.package == package]
    extra = "train" if name == "tensorboard" else "loggers"
    with pytest.raises(UserError, match=rf"pip install -e '\.\[{extra}\]'"):
        make(name)


def test_a_damaged_file_of_ids_is_named(tmp_path):
    (tmp_path / "loggers.json").write_text("[1]")
    with pytest.raises(UserError, match=r"loggers\.json is damaged.*remove it"):
        make("wandb").start(Config(loggers="wandb"), tmp_path, 0)
