"""Runs a detector in LiteRT (formerly TensorFlow Lite), on the CPU."""

import io
import json
import zipfile
from collections.abc import Mapping

import numpy as np
from ai_edge_litert.interpreter import Interpreter

from ssd_jax.distributed.memory import out_of_memory_as_user_error
from ssd_jax.inference.engine import FEWER, Found
from ssd_jax.inference.exported import Exported, Images, cannot_run, describe
from ssd_jax.inference.host_engine import HostEngine
from ssd_jax.inference.litert_notice import without_notice
from ssd_jax.interop.archives import open_archive

DESCRIPTION_FILE = "detector.json"  # in the archive after the model
MAX_DESCRIPTION = 2**22  # bytes
OUTPUTS = ("boxes", "classes", "scores", "count")
# TFLite_Detection_PostProcess of LiteRT 2.3 divides the classes among its threads, and misses some
# if their number is not a multiple of the number of threads.
NUM_THREADS = 1
XYXY = [1, 0, 3, 2]  # the order of y_min, x_min, y_max and x_max


class TfliteEngine(HostEngine):
    """An `Engine`; a TFLite file detects in one image at a time."""

    def __init__(self, exported: Exported):
        """Loads a file of TFLite.

        Raises:
          UserError: the file is damaged, or not a detector of this project.
        """
        try:
            interpreter = Interpreter(model_content=exported.content, num_threads=NUM_THREADS)
            with without_notice():
                interpreter.allocate_tensors()
            self._run_one = interpreter.get_signature_runner()
        except Exception as error:  # its errors have no common class
            raise cannot_run(exported.name, "LiteRT", error) from error
        given, found = self._run_one.get_input_details(), self._run_one.get_output_details()
        inputs = {name: _images(details) for name, details in given.items()}
        description = describe(
            _description(exported.content), inputs, list(found), exported.name, OUTPUTS
        )
        super().__init__(description, exported.name)

    def _run(self, pixels: np.ndarray, batch_size: int) -> Found:
        del batch_size
        with out_of_memory_as_user_error(len(pixels), FEWER):
            each = [self._run_one(images=image[None]) for image in pixels]
        boxes, classes, scores, counts = (
            np.concatenate([found[name] for found in each]) for name in OUTPUTS
        )
        real = np.arange(scores.shape[1]) < counts[:, None]
        labels = np.where(real, classes + 1, 0).astype(np.int32)
        return Found(boxes[..., XYXY], np.where(real, scores, 0), labels)


def _images(details: Mapping[str, np.ndarray]) -> Images:
    """An input, with a batch of any size instead of one image."""
    first, *rest = np.asarray(details["shape"]).tolist()
    return Images(np.dtype(details["dtype"]).name, ["any" if first == 1 else first, *rest])


def _description(content: bytes) -> dict[str, str]:
    """The metadata in the archive after a model; {} without one."""
    try:
        with open_archive(io.BytesIO(content)) as archive:
            if archive.getinfo(DESCRIPTION_FILE).file_size > MAX_DESCRIPTION:
                return {}
            told = json.loads(archive.read(DESCRIPTION_FILE))
    except (OSError, ValueError, KeyError, RecursionError, EOFError, zipfile.BadZipFile):
        return {}
    if not isinstance(told, dict):
        return {}
    return {
        key: value if isinstance(value, str) else json.dumps(value) for key, value in told.items()
    }
