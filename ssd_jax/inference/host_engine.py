"""The base of engines on the CPU: one thread that runs one batch at a time."""

import abc
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np

from ssd_jax.distributed.memory import check_images
from ssd_jax.inference.engine import FEWER, Description, Found
from ssd_jax.inference.exported import check_found


class HostEngine(abc.ABC):
    """An `Engine` without `_run`, which detects in one batch."""

    def __init__(self, description: Description, name: str) -> None:
        """Starts the thread.

        Args:
          description: the description of the detector.
          name: the name of its file in messages.
        """
        self.description = description
        self._name = name
        self._worker = ThreadPoolExecutor(1, type(self).__name__)

    def check_batch(self, batch_size: int) -> None:
        """See `Engine`."""
        check_images(batch_size, self.description.side, FEWER)

    def start(self, pixels: np.ndarray, batch_size: int) -> Future[Found]:
        """See `Engine`."""
        return self._worker.submit(self._run, pixels, batch_size)

    def fetch(self, started: Future[Found]) -> Found:
        """See `Engine`."""
        return check_found(started.result(), self.description, self._name)

    @abc.abstractmethod
    def _run(self, pixels: np.ndarray, batch_size: int) -> Found:
        """Detects in images, in the thread; `batch_size` is the argument of `start`."""
