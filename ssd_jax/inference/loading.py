"""The detector that the flags of a command name."""

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from ssd_jax.errors import UserError, check_installed
from ssd_jax.inference.detector import Detector
from ssd_jax.inference.exported import Exported
from ssd_jax.inference.onnx_files import ONNX_ENGINES, load_onnx
from ssd_jax.runs.which_checkpoint import WhichCheckpoint
from ssd_jax.storage.files import local_path

if TYPE_CHECKING:
    from ssd_jax.interop.trained import Trained

ENGINES = ("jax", *ONNX_ENGINES)


def load_detector(
    workdir: str | None, weights: str | None, checkpoint: WhichCheckpoint = "best", engine: str = ""
) -> Detector:
    """The detector that the flags name.

    Args:
      workdir: the work directory of a run.
      weights: or what `ssd-jax export` wrote, a folder or a file of ONNX; or `hf:USER/NAME`.
      checkpoint: of the run.
      engine: one of `ENGINES`; "" for JAX, or of a file of ONNX for onnxruntime.

    Raises:
      UserError: they name none or two, it cannot be read, or the engine cannot run it.
    """
    if (workdir is None) == (weights is None):
        raise UserError(
            "name either --workdir, of a run, or --weights, what `ssd-jax export` wrote"
        )
    if engine and engine not in ENGINES:
        raise UserError(f"--engine is {engine!r}, but must be one of {', '.join(ENGINES)}")
    if workdir is not None:
        if engine in ("", "jax"):
            return Detector.from_workdir(workdir, checkpoint)
        from ssd_jax.runs.trained import load_workdir

        return Detector(load_onnx(exported_now(load_workdir(workdir, checkpoint), workdir), engine))
    assert weights is not None
    if checkpoint != "best":
        raise UserError("--checkpoint goes with --workdir: --weights has only one")
    if is_onnx(weights):
        if engine == "jax":
            raise UserError(
                f"--engine is jax, but {weights} is run by {' or '.join(ONNX_ENGINES)} alone"
            )
        return Detector.from_onnx(weights, "openvino" if engine == "openvino" else "onnx")
    if engine in ("", "jax"):
        return Detector.from_pretrained(weights)
    from ssd_jax.interop.hub import load_pretrained

    return Detector(load_onnx(exported_now(load_pretrained(weights), weights), engine))


def is_onnx(weights: str) -> bool:
    """Whether weights are a file of ONNX, or a folder with one and without arrays of JAX."""
    path = local_path(weights)
    return path.suffix == ".onnx" or (
        (path / "detector.onnx").is_file() and not (path / "config.json").is_file()
    )


def exported_now(trained: "Trained", name: str) -> Exported:
    """A detector as a file of ONNX, which lies nowhere.

    Args:
      trained: the detector.
      name: what messages call it.

    Raises:
      UserError: the package `onnx` is not installed.
    """
    check_installed("onnx")
    from ssd_jax.interop.onnx_detector import write_onnx

    with tempfile.TemporaryDirectory() as folder:
        write_onnx(trained, Path(folder))
        return Exported((Path(folder) / "detector.onnx").read_bytes(), name)
