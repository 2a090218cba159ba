"""Saves and restores states with Orbax. No other file uses Orbax."""

import contextlib
import json
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp
import pydantic
from orbax.checkpoint import checkpoint_managers

from ssd_jax.config.schema import RunConfig
from ssd_jax.errors import NO_SPACE, UserError
from ssd_jax.models.network import Variables
from ssd_jax.storage.checksums import DamageError, verify_checksums, write_checksums
from ssd_jax.training.checkpoint_messages import (
    ignore_closed_loops,
    without_read_only_warnings,
)
from ssd_jax.training.state import TrainState

UNFINISHED = f"*{ocp.utils.TMP_DIR_SUFFIX}*"  # names of folders that Orbax has not completed
STATUS = re.compile("[A-Z_]+: ")  # the beginning of TensorStore's errors
ITEMS = ("model", "training", "progress")


class Progress(pydantic.BaseModel):
    """State of the training loop, apart from the arrays, that a continued run needs.

    Attributes:
      values: the metrics of each finite step since the last line.
      dropped: boxes left out of training images since then.
      all_dropped: the same since the start of the run.
      skipped: steps of the run that were not finite.
    """

    values: list[dict[str, float]] = []
    dropped: int = 0
    all_dropped: int = 0
    skipped: int = 0


def saved_steps(directory: Path) -> list[int]:
    """The steps of the complete checkpoints in a directory; unfinished ones have other names."""
    if not directory.is_dir():
        return []
    return sorted(int(path.name) for path in directory.iterdir() if _is_complete(path))


class Checkpoints:
    """The checkpoints of one work directory: the last few, and the best by mAP.

    Each process opens them alone and waits for no other process of the run.

    Every checkpoint holds three items: `model` (parameters, averaged and last, and batch
    statistics, all that evaluation needs), `training` (step and optimiser state), and `progress`,
    the state of the loop. Checkpoints are written in the background, in a folder with a temporary
    name, which is renamed when it is complete. Each holds SHA-256 checksums of its files: Orbax
    loads damaged arrays without an error.
    """

    def __init__(
        self, directory: Path, keep: int = RunConfig().keep_checkpoints, read_only: bool = False
    ):
        """Opens a directory of checkpoints.

        Args:
          directory: created if it does not exist, unless `read_only`.
          keep: the number of last checkpoints to keep.
          read_only: whether nothing will be saved.
        """
        policies, index = checkpoint_managers, jax.process_index()
        self._directory = Path(directory).resolve()
        if not read_only:
            self._directory.mkdir(parents=True, exist_ok=True)
        self._keep = 0 if read_only else keep  # 0: removes nothing
        self._best = _KeepBest()
        ignore_closed_loops()
        with without_read_only_warnings():
            self._manager = ocp.CheckpointManager(
                self._directory,
                options=ocp.CheckpointManagerOptions(
                    preservation_policy=policies.AnyPreservationPolicy(
                        [policies.LatestN(keep), self._best]
                    ),
                    read_only=read_only,
                    create=False,
                    multiprocessing_options=ocp.options.MultiprocessingOptions(
                        primary_host=index,
                        active_processes={index},
                        barrier_sync_key_prefix=str(index),
                    ),
                    cleanup_tmp_directories=not read_only,  # left by a killed process
                    # Called in the background by the process that renames the complete folder.
                    async_options=ocp.AsyncOptions(
                        post_finalization_callback=self._write_checksums
                    ),
                ),
                item_names=ITEMS,
            )

    def steps(self) -> list[int]:
        """The steps that are saved, ascending."""
        return sorted(self._manager.all_steps())

    def rate(self, step: int, mean_ap: float) -> None:
        """Records the mAP of a checkpoint; the best one is kept."""
        self._best.mean_ap[step] = mean_ap

    def best(self) -> int | None:
        """The saved step with the highest mAP; None if none was evaluated."""
        return self._best.of(self.steps())

    def save(self, state: TrainState, progress: Progress | None = None) -> None:
        """Saves a state in the background; does nothing if its step is already saved.

        Args:
          state: the output of the train step.
          progress: the state of the loop, for `restore_progress`.

        Raises:
          UserError: this checkpoint, or the one before, cannot be written.
        """
        step = int(state.step.addressable_data(0))
        if step in self._manager.all_steps():
            return
        if jax.process_count() > 1:  # otherwise Orbax expects every process to save its arrays
            state = jax.tree.map(lambda array: np.asarray(array.addressable_data(0)), state)
        with self._explained():
            self._manager.save(
                step,
                args=ocp.args.Composite(
                    model=ocp.args.PyTreeSave(_model(state)),
                    training=ocp.args.PyTreeSave(_training(state)),
                    progress=ocp.args.JsonSave((progress or Progress()).model_dump()),
                ),
            )

    def restore(self, template: TrainState, step: int | None = None) -> TrainState:
        """Reads a state as NumPy arrays.

        Args:
          template: a state of the same structure and shapes; its values do not matter.
          step: its step; None = the last.

        Raises:
          UserError: there is no such checkpoint, it is damaged, or it is of another network.
        """
        step = self._existing(step)
        items = self._restore(step, model=_model(template), training=_training(template))
        return TrainState(**items["model"], **items["training"])

    def restore_progress(self) -> Progress:
        """The state of the loop in the last checkpoint.

        Raises:
          UserError: it is damaged.
        """
        step = self._existing(None)
        self._verify(step, ["progress"])
        arguments = ocp.args.Composite(progress=ocp.args.JsonRestore())
        try:
            restored = self._manager.restore(step, args=arguments)["progress"]
            return Progress.model_validate(restored)
        except (OSError, KeyError, ValueError) as error:
            raise self._damaged(step, f"progress: {error}") from error

    def restore_model(
        self,
        parameters: Variables,
        batch_stats: Variables,
        step: int | None = None,
        averages: bool = False,
    ) -> tuple[Variables, Variables]:
        """Reads parameters, averaged where the run has `averages`, and batch statistics alone.

        See `restore` for the rest.
        """
        template = {
            "parameters": parameters,
            "averaged": parameters if averages else {},
            "batch_stats": batch_stats,
        }
        model = self._restore(self._existing(step), model=template)["model"]
        return model["averaged"] or model["parameters"], model["batch_stats"]

    def wait(self) -> None:
        """Returns when everything is on disk.

        Raises:
          UserError: it cannot be written.
        """
        with self._explained():
            self._manager.wait_until_finished()

    def close(self) -> None:
        """Finishes saving, and keeps only the last checkpoints and the best one; see `wait`."""
        self.wait()
        best = self.best()
        for step in self.steps()[: -self._keep] if self._keep else ():
            if step != best:  # the best before an evaluation that followed the last save
                self._manager.delete(step)
        self._manager.close()

    @contextlib.contextmanager
    def _explained(self) -> Iterator[None]:
        """Raises a `UserError` instead of Orbax's errors on a full disk."""
        try:
            yield
        except Exception as error:
            if not _is_about_space(error):
                raise
            saved = ", ".join(map(str, self.steps())) or "none yet"
            raise UserError(
                f"a checkpoint could not be written to {self._directory}: "
                f"{str(error).splitlines()[0]}. Those that are complete are kept (steps: {saved}); "
                "free some space and start again"
            ) from error

    def _existing(self, step: int | None) -> int:
        steps = self.steps()
        if not steps:
            raise UserError(f"{self._directory} has no checkpoint: train there first")
        if step is None:
            return steps[-1]
        if step not in steps:
            raise UserError(
                f"{self._directory} has no checkpoint of step {step}, but of "
                f"{', '.join(map(str, steps))}"
            )
        return step

    def _restore(self, step: int, **templates: Any) -> dict[str, Any]:
        def arguments(template):
            abstract = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), template)
            return ocp.args.PyTreeRestore(
                abstract,
                restore_args=jax.tree.map(
                    lambda _: ocp.RestoreArgs(restore_type=np.ndarray), abstract
                ),
            )

        self._verify(step, templates)
        try:
            restored = self._manager.restore(
                step,
                args=ocp.args.Composite(
                    **{name: arguments(template) for name, template in templates.items()}
                ),
            )
        except (OSError, KeyError, ValueError) as error:
            is_text = isinstance(error, json.JSONDecodeError | UnicodeDecodeError)
            if is_text or not isinstance(error, ValueError) or STATUS.match(str(error)):
                raise self._damaged(step, str(error)) from error
            raise _other_network(self._directory, step, str(error)) from error
        for name, template in templates.items():
            shapes = jax.tree.map(lambda x: tuple(x.shape), (template, restored[name]))
            if shapes[0] != shapes[1]:
                raise _other_network(self._directory, step, "its arrays have other shapes")
        return dict(restored.items())

    def _verify(self, step: int, items: Iterable[str]) -> None:
        """Compares the files of some items with their checksums.

        Raises:
          UserError: one is damaged.
        """
        try:
            verify_checksums(self._directory / str(step), items)
        except DamageError as error:
            raise self._damaged(step, str(error)) from error

    def _damaged(self, step: int, reason: str) -> UserError:
        before = [other for other in self.steps() if other < step]
        use = f"use the one before, of step {before[-1]}" if before else "there is none before it"
        return UserError(
            f"the checkpoint of step {step} in {self._directory} is damaged ({reason[:200]}): "
            f"remove the folder {step}, and {use}"
        )

    def _write_checksums(self) -> None:
        """Writes the checksums of the one checkpoint that is not complete yet."""
        for folder in self._directory.glob(UNFINISHED):
            write_checksums(folder, ITEMS)


class _KeepBest:
    """Orbax's policy to keep the checkpoint with the highest mAP.

    A state is saved before its evaluation, so that an interrupted evaluation can be repeated.
    """

    def __init__(self):
        self.mean_ap: dict[int, float] = {}

    def of(self, steps: Iterable[int]) -> int | None:
        """The step with the highest mAP, the first among equals; None if none was evaluated."""
        rated = [step for step in steps if step in self.mean_ap]
        return max(rated, key=self.mean_ap.__getitem__, default=None)

    def should_preserve(self, checkpoints: Sequence[Any], *, context: Any) -> list[bool]:
        """Whether to keep each checkpoint."""
        del context
        best = self.of(info.step for info in checkpoints)
        return [info.step == best for info in checkpoints]


def _is_complete(path: Path) -> bool:
    """Whether a path is the folder of a complete checkpoint: its name is the step alone."""
    return path.name.isascii() and path.name.isdigit() and path.is_dir()


def _is_about_space(error: BaseException) -> bool:
    """Whether the cause is a full disk, a quota, or the maximum size of files."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, OSError) and cause.errno in NO_SPACE:
            return True
        # TensorStore writes arrays in C++; its errors have no number.
        if any(os.strerror(number) in str(cause) for number in NO_SPACE):
            return True
        cause = cause.__cause__ or cause.__context__
    return False


def _model(state: TrainState) -> dict[str, Any]:
    return {
        "parameters": state.parameters,
        "averaged": state.averaged,
        "batch_stats": state.batch_stats,
    }


def _training(state: TrainState) -> dict[str, Any]:
    return {"step": state.step, "opt_state": state.opt_state}


def _other_network(directory: Path, step: int, reason: str) -> UserError:
    return UserError(
        f"the checkpoint of step {step} in {directory} is not of the network that the config "
        f"describes ({reason.splitlines()[0]}): use the config it was trained with (model, ema, "
        "optimizer and freeze decide what a checkpoint holds), or another work directory"
    )
