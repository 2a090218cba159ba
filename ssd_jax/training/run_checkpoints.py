"""The checkpoints of a run, of one process or several."""

from pathlib import Path

from ssd_jax.distributed import devices, exchange, watch
from ssd_jax.training.checkpoints import Checkpoints, Progress
from ssd_jax.training.state import TrainState


class RunCheckpoints:
    """Checkpoints that only the main process reads and writes; it sends the state to the others.

    Other hosts need no access to the work directory. All processes must call every method.
    """

    def __init__(self, directory: Path, keep: int):
        """Opens a directory of checkpoints; see `Checkpoints`."""
        self._own = Checkpoints(directory, keep) if devices.is_main_process() else None

    def steps(self) -> list[int]:
        """The steps that are saved, ascending."""
        return exchange.from_main_process(self._own.steps() if self._own else [])

    def rate(self, step: int, mean_ap: float) -> None:
        """Records the mAP of a checkpoint; the best checkpoint is kept."""
        if self._own:
            self._own.rate(step, mean_ap)

    def best(self) -> int | None:
        """The saved step with the highest mAP; None if none was evaluated."""
        return exchange.from_main_process(self._own.best() if self._own else None)

    def save(self, state: TrainState, progress: Progress | None = None) -> None:
        """Saves a state in the background; see `Checkpoints.save`."""
        if self._own:
            self._own.save(state, progress)

    def restore(self, template: TrainState) -> tuple[TrainState, Progress]:
        """Reads the last state, as NumPy arrays, and its progress.

        Raises:
          UserError: there is no checkpoint, it is damaged, or it is of another network.
        """

        def read() -> TrainState:
            assert self._own is not None
            return self._own.restore(template)

        state = exchange.arrays_from_main_process(read, template)
        progress = self._own.restore_progress() if self._own else Progress()
        told = exchange.from_main_process(progress.model_dump())
        return state, Progress.model_validate(told)

    def wait(self) -> None:
        """Returns when all files of this process are on disk.

        Raises:
          UserError: it cannot be written.
        """
        if self._own:
            self._own.wait()

    def wait_together(self) -> None:
        """Returns on all processes when everything is on disk; see `wait`."""
        self.wait()
        with watch.waiting("a checkpoint that the main process saves"):
            exchange.from_main_process(True)

    def close(self) -> None:
        """Finishes saving; see `wait`."""
        if self._own:
            self._own.close()
