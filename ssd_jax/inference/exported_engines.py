"""Loads exported files in the engines that support them."""

from ssd_jax.errors import UserError, check_installed
from ssd_jax.inference.engine import Engine
from ssd_jax.inference.exported import Exported

ENGINES_OF = {"onnx": ("onnx", "openvino"), "tflite": ("tflite",)}  # by kind of file
PACKAGES = {"onnx": "onnxruntime", "openvino": "openvino", "tflite": "ai_edge_litert"}
KIND_OF = {engine: kind for kind, engines in ENGINES_OF.items() for engine in engines}


def check_engine(engine: str, kind: str, name: str) -> None:
    """Checks that an engine is installed and supports a kind of file.

    Args:
      engine: the name of the engine.
      kind: one of `ENGINES_OF`.
      name: the name of the file in messages.

    Raises:
      UserError: the engine does not support the kind, or is not installed.
    """
    if engine not in ENGINES_OF[kind]:
        raise UserError(f"{name} cannot be run by {engine!r}: use {' or '.join(ENGINES_OF[kind])}")
    check_installed(PACKAGES[engine], f"the engine {engine}")


def load_exported(exported: Exported, engine: str) -> Engine:
    """Loads a file in an engine.

    Raises:
      UserError: see `check_engine`; or the engine cannot run the file.
    """
    check_engine(engine, exported.kind, exported.name)
    if engine == "tflite":
        from ssd_jax.inference.tflite_engine import TfliteEngine

        return TfliteEngine(exported)
    if engine == "openvino":
        from ssd_jax.inference.openvino_engine import OpenvinoEngine

        return OpenvinoEngine(exported)
    from ssd_jax.inference.onnx_engine import OnnxEngine

    return OnnxEngine(exported)
