"""Runs a detector in onnxruntime, on the CPU."""

import numpy as np
import onnxruntime

from ssd_jax.distributed.memory import out_of_memory_as_user_error
from ssd_jax.inference.engine import FEWER, Found
from ssd_jax.inference.exported import Exported, Images, cannot_run, describe
from ssd_jax.inference.host_engine import HostEngine
from ssd_jax.threads import num_cores

SILENT = 4  # only fatal errors: others are also raised


class OnnxEngine(HostEngine):
    """An `Engine` for batches of any size."""

    def __init__(self, exported: Exported):
        """Loads a file of ONNX.

        Raises:
          UserError: the file is damaged, or not a detector of this project.
        """
        options = onnxruntime.SessionOptions()
        options.log_severity_level = SILENT
        options.intra_op_num_threads = num_cores()
        # Threads that actively wait for the next operation would occupy the cores that decode
        # images.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        try:
            self._session = onnxruntime.InferenceSession(
                exported.content, options, providers=["CPUExecutionProvider"]
            )
        except Exception as error:  # its errors have no common class
            raise cannot_run(exported.name, "onnxruntime", error) from error
        description = describe(
            self._session.get_modelmeta().custom_metadata_map,
            {each.name: Images(each.type, each.shape) for each in self._session.get_inputs()},
            [each.name for each in self._session.get_outputs()],
            exported.name,
        )
        super().__init__(description, exported.name)

    def _run(self, pixels: np.ndarray, batch_size: int) -> Found:
        del batch_size
        with out_of_memory_as_user_error(len(pixels), FEWER):
            found = self._session.run(list(Found._fields), {"images": pixels})
        return Found(*map(np.asarray, found))
