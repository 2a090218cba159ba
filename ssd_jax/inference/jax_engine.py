"""Runs a detector in JAX, on the first device."""

import threading
from typing import Any

import jax
import numpy as np

from ssd_jax.distributed.memory import check_batch, out_of_memory_as_user_error
from ssd_jax.inference.engine import FEWER, Description, Found
from ssd_jax.interop.trained import Trained
from ssd_jax.models.activations import largest_convolution
from ssd_jax.models.prediction import compiler_options, make_predict_step


class JaxEngine:
    """An `Engine`; compiled once for each batch size.

    Attributes:
      trained: the detector.
    """

    def __init__(self, trained: Trained):
        self.trained = trained
        self.description = Description(
            class_names=trained.class_names,
            category_ids=trained.category_ids,
            side=trained.network.tiling.image_size,
            least_score=trained.config.detection.score_threshold,
        )
        self._variables = jax.device_put(trained.variables)
        step = make_predict_step(trained.network, trained.config.detection)
        self._predict = jax.jit(step, compiler_options=compiler_options())
        self._compiled: dict[int, Any] = {}  # by batch size
        self._compiling = threading.Lock()

    def check_batch(self, batch_size: int) -> None:
        """See `Engine`."""
        if batch_size not in self._compiled:
            program = self._program(batch_size).jaxpr.jaxpr
            side = self.description.side
            check_batch(batch_size, side, largest_convolution(program), FEWER)

    def start(self, pixels: np.ndarray, batch_size: int) -> Any:
        """See `Engine`."""
        padding = [(0, batch_size - len(pixels))] + [(0, 0)] * 3
        with out_of_memory_as_user_error(batch_size, FEWER):
            with self._compiling:
                if batch_size not in self._compiled:
                    self._compiled[batch_size] = self._program(batch_size).lower().compile()
            return self._compiled[batch_size](self._variables, np.pad(pixels, padding))

    def fetch(self, started: Any) -> Found:
        """See `Engine`."""
        with out_of_memory_as_user_error(len(started.labels), FEWER):
            return Found(*jax.device_get(started))

    def _program(self, batch_size: int) -> Any:
        """The program for a batch size, not compiled yet."""
        side = self.description.side
        pixels = jax.ShapeDtypeStruct((batch_size, side, side, 3), np.uint8)
        return self._predict.trace(self._variables, pixels)
