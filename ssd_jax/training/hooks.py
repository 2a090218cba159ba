"""Hooks: objects that receive the config, metrics and pictures of a run, and can end it."""

import contextlib
import functools
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType

import numpy as np

from ssd_jax.config.schema import Config
from ssd_jax.distributed import devices, exchange
from ssd_jax.errors import UserError


class StopTraining(Exception):  # noqa: N818, as StopIteration: no error
    """Raised by `Hook.scalars` to end the run after this step; its message says why."""


class Hook:
    """Base class of hooks, like loggers. A subclass defines the methods that it needs.

    The run calls them only in the main process. An exception of a hook other than `StopTraining`
    ends the run with this exception, after all checkpoints are saved.
    """

    def start(self, config: Config, workdir: Path, step: int) -> None:
        """Called before the first step.

        Args:
          config: of the run.
          workdir: its work directory.
          step: the number of steps done before: 0, or the step from which the run continues.
        """

    def scalars(self, step: int, values: Mapping[str, float | None]) -> None:
        """Called after every `config.log_every` steps, and after every evaluation.

        A continued run repeats the steps after its last checkpoint, with their calls.

        Args:
          step: the number of steps done.
          values: `train/loss`, … or `eval/mAP`, …; None = no value.

        Raises:
          StopTraining: to end the run. This step is saved and, if an evaluation is due, evaluated.
        """

    def image(self, step: int, name: str, picture: np.ndarray) -> None:
        """Called with pictures `[height, width, 3] uint8`: "training" and "detections"."""

    def end(self, error: BaseException | None) -> None:
        """Called at the end of the run, also after an error, a signal or `StopTraining`."""


class Hooks:
    """The hooks of a run, as a context manager that calls `end` of each.

    It exists in all processes, but calls hooks only in the main process.
    """

    def __init__(self, own: Sequence[Hook] = (), given: Sequence[Hook] = ()):
        """Args:
        own: hooks that never end the run.
        given: hooks that may end it; the same in all processes.

        Raises:
          UserError: a class is given instead of a hook.
        """
        for hook in given:
            if isinstance(hook, type):
                name = hook.__name__
                raise UserError(f"hooks has the class {name}: give an object of it, {name}(…)")
        self._hooks = [*own, *given] if devices.is_main_process() else []
        self._may_stop = bool(given)
        self._ends = contextlib.ExitStack()

    def __enter__(self) -> "Hooks":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._ends.__exit__(kind, error, traceback)

    def start(self, config: Config, workdir: Path, step: int) -> None:
        """See `Hook.start`."""
        for hook in self._hooks:
            hook.start(config, workdir, step)
            self._ends.push(functools.partial(_end, hook))

    def scalars(self, step: int, values: Mapping[str, float | None]) -> str:
        """Calls `Hook.scalars` of all, and returns the reason to end the run; "" = none.

        All processes must call it.
        """
        reason = ""
        for hook in self._hooks:
            try:
                hook.scalars(step, values)
            except StopTraining as error:  # after the other hooks are called
                reason = reason or str(error) or f"{type(hook).__name__} ended it"
        return exchange.from_main_process(reason) if self._may_stop else ""

    def image(self, step: int, name: str, picture: np.ndarray) -> None:
        """See `Hook.image`."""
        for hook in self._hooks:
            hook.image(step, name, picture)


def _end(hook: Hook, kind: object, error: BaseException | None, traceback: object) -> None:
    del kind, traceback
    hook.end(error)
