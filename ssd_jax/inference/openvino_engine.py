"""Runs a detector in OpenVINO, on the CPU."""

import sys
from types import ModuleType
from typing import Any

import numpy as np

from ssd_jax.distributed.memory import out_of_memory_as_user_error
from ssd_jax.inference.engine import FEWER, Found
from ssd_jax.inference.exported import Exported, Images, cannot_run, describe
from ssd_jax.inference.host_engine import HostEngine

# On a CPU with bfloat16, OpenVINO would use it, and give other detections.
SETTINGS = {"INFERENCE_PRECISION_HINT": "f32"}
METADATA = ["framework"]  # OpenVINO's key of the metadata of ONNX files


class OpenvinoEngine(HostEngine):
    """An `Engine`; the network is compiled for each batch size, which makes it faster."""

    def __init__(self, exported: Exported):
        """Loads a file of ONNX.

        Raises:
          UserError: the file is damaged, or not a detector of this project.
        """
        self._core = _import_openvino().Core()
        try:
            self._model = self._core.read_model(exported.content)
        except Exception as error:  # its errors have no common class
            raise cannot_run(exported.name, "OpenVINO", error) from error
        model = self._model
        inputs = {
            each.get_any_name(): Images(
                each.element_type.to_dtype().name,
                [size.get_length() if size.is_static else "any" for size in each.partial_shape],
            )
            for each in model.inputs
        }
        told = model.get_rt_info(METADATA).value if model.has_rt_info(METADATA) else {}
        outputs = [each.get_any_name() for each in model.outputs]
        super().__init__(describe(told, inputs, outputs, exported.name), exported.name)
        self._compiled: dict[int, Any] = {}  # by batch size

    def _run(self, pixels: np.ndarray, batch_size: int) -> Found:
        padding = [(0, batch_size - len(pixels))] + [(0, 0)] * 3
        with out_of_memory_as_user_error(batch_size, FEWER):
            if batch_size not in self._compiled:
                side = self.description.side
                self._model.reshape([batch_size, side, side, 3])
                compiled = self._core.compile_model(self._model, "CPU", SETTINGS)
                self._compiled[batch_size] = compiled
            found = self._compiled[batch_size]({"images": np.pad(pixels, padding)})
            return Found(*(np.array(found[name]) for name in Found._fields))


def _import_openvino() -> ModuleType:
    """Imports OpenVINO without its telemetry.

    The telemetry reports each import to Google Analytics, in a forked process, and creates a folder
    in the user's home.
    """
    telemetry = "openvino_telemetry"
    blocked = telemetry not in sys.modules and "openvino" not in sys.modules
    if blocked:
        sys.modules[telemetry] = None  # pyright: ignore[reportArgumentType]
    try:
        import openvino
    finally:
        if blocked:
            del sys.modules[telemetry]
    return openvino
