"""Hooks that log a run to TensorBoard, Weights & Biases and MLflow.

Their packages are imported only if `config.loggers` names them. The environment variables of these
packages set the server, and the project or experiment of a run.
"""

import contextlib
import logging
import math
import operator
import os
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np

from ssd_jax.config.schema import Config, Group, field_names
from ssd_jax.errors import Interrupted, UserError, check_installed, reason_of
from ssd_jax.storage.files import read_json, write_json
from ssd_jax.training.hooks import Hook

logger = logging.getLogger(__name__)

PROJECT = "ssd_jax"  # if the environment names no other
RUN_IDS = "loggers.json"  # in the work directory: the ids of the run at Weights & Biases and MLflow


class TensorBoard(Hook):
    """Writes curves and pictures into `tensorboard/` of the work directory."""

    package = "tensorboardX"

    def start(self, config: Config, workdir: Path, step: int) -> None:
        from tensorboardX.event_file_writer import EventsWriter
        from tensorboardX.proto import event_pb2

        folder = workdir / "tensorboard"
        folder.mkdir(exist_ok=True)
        # Not tensorboardX's usual writer, which is a thread: after a full disk ends the thread, the
        # program would wait for it forever.
        self._events = EventsWriter(str(folder / "events"), f".{step:09d}")
        # Removes later points from the curves.
        log = event_pb2.SessionLog  # pyright: ignore[reportAttributeAccessIssue]
        self._write(step + 1, session_log=log(status=log.START))

    def scalars(self, step: int, values: Mapping[str, float | None]) -> None:
        from tensorboardX import summary

        for name, value in _finite(values).items():
            self._write(step, summary=summary.scalar(name, value))
        self._events.flush()

    def image(self, step: int, name: str, picture: np.ndarray) -> None:
        from tensorboardX import summary

        self._write(step, summary=summary.image(name, picture, dataformats="HWC"))

    def end(self, error: BaseException | None) -> None:
        self._events.close()

    def _write(self, step: int, **content: object) -> None:
        from tensorboardX.proto import event_pb2

        event = event_pb2.Event  # pyright: ignore[reportAttributeAccessIssue]
        self._events.write_event(event(step=step, wall_time=time.time(), **content))


class WeightsAndBiases(Hook):
    """A run at Weights & Biases, with the name of the work directory.

    `WANDB_PROJECT`, `WANDB_ENTITY`, `WANDB_MODE=offline` and the other variables of wandb apply.
    """

    package = "wandb"

    def start(self, config: Config, workdir: Path, step: int) -> None:
        """Begins a run, or continues that of the work directory.

        Raises:
          UserError: wandb refuses, for example if nobody is logged in.
        """
        import wandb

        self._image = wandb.Image
        try:
            self._run = wandb.init(
                project=os.environ.get("WANDB_PROJECT", PROJECT),
                name=workdir.resolve().name,
                dir=workdir,
                id=_run_id(workdir, "wandb"),
                resume="allow",
                reinit="create_new",  # also if the caller has its own run
            )
        except wandb.Error as error:
            raise UserError(
                f"Weights & Biases cannot be used: {reason_of(error)} Set WANDB_MODE=offline to "
                "log into the work directory, or leave wandb out of config.loggers"
            ) from error
        _keep_run_id(workdir, "wandb", self._run.id)
        self._run.config.update(config.model_dump(mode="json"), allow_val_change=True)
        # Not wandb's own steps, which cannot decrease: a run may continue from an earlier step.
        self._run.define_metric("*", step_metric="step")

    def scalars(self, step: int, values: Mapping[str, float | None]) -> None:
        self._run.log({"step": step, **_finite(values)})

    def image(self, step: int, name: str, picture: np.ndarray) -> None:
        self._run.log({"step": step, name: self._image(picture)})

    def end(self, error: BaseException | None) -> None:
        self._run.finish(exit_code=0 if error is None else 1)


class MLflow(Hook):
    """A run of MLflow, with the name of the work directory.

    `MLFLOW_TRACKING_URI`, `MLFLOW_EXPERIMENT_NAME` and the other variables of MLflow apply. If
    the server cannot be reached later, training continues with a warning.
    """

    package = "mlflow"

    def start(self, config: Config, workdir: Path, step: int) -> None:
        """Begins a run, or continues that of the work directory.

        Raises:
          UserError: MLflow refuses, for example if the server cannot be reached.
        """
        import mlflow
        from mlflow import entities

        self._error, self._entities = mlflow.MlflowException, entities
        known = _run_id(workdir, "mlflow")
        try:
            self._client = mlflow.MlflowClient()
            self._id = known or self._new_run(workdir.resolve().name)
            self._client.update_run(self._id, status="RUNNING")
            if not known:  # MLflow refuses a second value of a parameter
                parameters = [
                    self._entities.Param(name, str(value)) for name, value in _fields(config)
                ]
                self._client.log_batch(self._id, params=parameters)
            self._client.log_dict(self._id, config.model_dump(mode="json"), "config.json")
        except (self._error, ImportError) as error:
            new = f", remove {workdir / RUN_IDS} to begin a new run there" if known else ""
            raise UserError(
                f"MLflow cannot be used: {reason_of(error)}: set MLFLOW_TRACKING_URI to a server "
                f"that answers or to sqlite:///mlflow.db{new}, or leave mlflow out of "
                "config.loggers"
            ) from error
        _keep_run_id(workdir, "mlflow", self._id)

    def scalars(self, step: int, values: Mapping[str, float | None]) -> None:
        now = int(1000 * time.time())
        metrics = [
            self._entities.Metric(name, value, now, step) for name, value in _finite(values).items()
        ]
        with self._warnings():
            self._client.log_batch(self._id, metrics=metrics)

    def image(self, step: int, name: str, picture: np.ndarray) -> None:
        with self._warnings():
            self._client.log_image(self._id, picture, key=name, step=step)

    def end(self, error: BaseException | None) -> None:
        failure = "KILLED" if isinstance(error, Interrupted) else "FAILED"
        status = "FINISHED" if error is None else failure
        with self._warnings():
            self._client.set_terminated(self._id, status)

    def _new_run(self, name: str) -> str:
        experiment = os.environ.get("MLFLOW_EXPERIMENT_NAME", PROJECT)
        found = self._client.get_experiment_by_name(experiment)
        number = found.experiment_id if found else self._client.create_experiment(experiment)
        return self._client.create_run(number, run_name=name).info.run_id

    @contextlib.contextmanager
    def _warnings(self) -> Iterator[None]:
        """A block in which failures of MLflow are only warnings."""
        try:
            yield
        except self._error as error:
            logger.warning("MLflow: %s", reason_of(error))


LOGGERS: dict[str, type[TensorBoard | WeightsAndBiases | MLflow]] = {
    "tensorboard": TensorBoard,
    "wandb": WeightsAndBiases,
    "mlflow": MLflow,
}


def make_loggers(config: Config) -> list[Hook]:
    """The hooks that `config.loggers` names.

    Raises:
      UserError: the package of one is not installed.
    """
    loggers = []
    for name in config.logger_names:
        check_installed(LOGGERS[name].package)
        loggers.append(LOGGERS[name]())
    return loggers


def _finite(values: Mapping[str, float | None]) -> dict[str, float]:
    """The finite values, which a curve can show."""
    return {
        name: value for name, value in values.items() if value is not None and math.isfinite(value)
    }


def _fields(config: Config) -> list[tuple[str, object]]:
    """The fields of a config by names like `model.width`."""
    named = ((name, operator.attrgetter(name)(config)) for name in field_names())
    return [(name, value) for name, value in named if not isinstance(value, Group)]


def _run_id(workdir: Path, name: str) -> str | None:
    """The id of a run at a logger; None for a new run."""
    ids = read_json(workdir / RUN_IDS) if (workdir / RUN_IDS).is_file() else {}
    if not isinstance(ids, dict) or not isinstance(ids.get(name, ""), str):
        raise UserError(
            f"{workdir / RUN_IDS} is damaged: it must hold the names of loggers with ids of runs; "
            "remove it to begin new runs there"
        )
    return ids.get(name)


def _keep_run_id(workdir: Path, name: str, run_id: str) -> None:
    """Records the id, so that the logger continues the same run after a restart."""
    path = workdir / RUN_IDS
    write_json(path, (read_json(path) if path.is_file() else {}) | {name: run_id})
