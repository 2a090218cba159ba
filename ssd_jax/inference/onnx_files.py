"""Files of ONNX as engines run them."""

from ssd_jax.errors import UserError, check_installed
from ssd_jax.inference.engine import Engine
from ssd_jax.inference.exported import Exported

# Names of engines, and the packages they need.
ONNX_ENGINES = {"onnx": "onnxruntime", "openvino": "openvino"}


def load_onnx(exported: Exported, engine: str) -> Engine:
    """An engine that runs a file.

    Args:
      exported: the file.
      engine: one of `ONNX_ENGINES`.

    Raises:
      UserError: there is no such engine, it is not installed, or it cannot run the file.
    """
    if engine not in ONNX_ENGINES:
        raise UserError(
            f"{exported.name} cannot be run by {engine!r}, but by {' or '.join(ONNX_ENGINES)}"
        )
    check_installed(ONNX_ENGINES[engine])
    if engine == "openvino":
        from ssd_jax.inference.openvino_engine import OpenvinoEngine

        return OpenvinoEngine(exported)
    from ssd_jax.inference.onnx_engine import OnnxEngine

    return OnnxEngine(exported)
