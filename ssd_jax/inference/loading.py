"""Loads the detector named by the flags of a command."""

import tempfile
from collections.abc import Callable
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from ssd_jax.errors import UserError
from ssd_jax.inference.detector import Detector
from ssd_jax.inference.engine import Engine
from ssd_jax.inference.exported import Exported, read_exported
from ssd_jax.inference.exported_engines import ENGINES_OF, KIND_OF, check_engine, load_exported
from ssd_jax.runs.which_checkpoint import WhichCheckpoint
from ssd_jax.storage import clouds
from ssd_jax.storage.clouds import is_remote
from ssd_jax.storage.files import local_path

if TYPE_CHECKING:
    from ssd_jax.interop.trained import Trained

ENGINES = ("jax", *KIND_OF)


def load_detector(
    workdir: str | None, weights: str | None, checkpoint: WhichCheckpoint = "best", engine: str = ""
) -> Detector:
    """Loads the detector named by flags.

    Args:
      workdir: the work directory of a run.
      weights: instead of `workdir`, an export of `ssd-jax export`: a folder, or a file of ONNX or
        TFLite; or `hf:USER/NAME`.
      checkpoint: the checkpoint of the run.
      engine: one of `ENGINES`; "" for the first that runs the weights.

    Raises:
      UserError: the flags name no detector or two, it cannot be read, or the engine cannot run it.
    """
    if (workdir is None) == (weights is None):
        raise UserError("name either --workdir of a run, or --weights of an export")
    if engine and engine not in ENGINES:
        raise UserError(f"--engine is {engine!r}, but must be one of {', '.join(ENGINES)}")
    if workdir is not None:
        if engine in KIND_OF:
            check_engine(engine, KIND_OF[engine], workdir)
        from ssd_jax.runs.trained import load_workdir

        return Detector(make_engine(load_workdir(workdir, checkpoint), engine, workdir))
    assert weights is not None
    if checkpoint != "best":
        raise UserError("--checkpoint needs --workdir: --weights has only one checkpoint")
    kind = exported_kind(weights)
    if kind:
        if engine == "jax":
            raise UserError(
                f"--engine is jax, but {weights} can only be run by {' or '.join(ENGINES_OF[kind])}"
            )
        engine = engine or ENGINES_OF[kind][0]
        return Detector(load_exported(read_exported(weights, kind), engine))
    if engine in KIND_OF:
        check_engine(engine, KIND_OF[engine], weights)
    from ssd_jax.interop.hub import load_pretrained

    return Detector(make_engine(load_pretrained(weights), engine, weights))


def exported_kind(weights: str) -> str:
    """The kind of exported file of weights or in their folder; "" for arrays of JAX.

    Raises:
      UserError: a folder has two kinds.
    """
    suffix = PurePosixPath(weights).suffix[1:].lower()
    has = _has_file(weights)
    if suffix in ENGINES_OF:
        return suffix
    if has("config.json"):
        return ""
    kinds = [kind for kind in ENGINES_OF if has(f"detector.{kind}")]
    if len(kinds) > 1:
        names = " and ".join(f"detector.{kind}" for kind in kinds)
        raise UserError(f"{weights} has {names}: name one of the files")
    return kinds[0] if kinds else ""


def _has_file(folder: str) -> Callable[[str], bool]:
    """A function that returns whether a folder has a file of a name."""
    if is_remote(folder):
        return clouds.objects_at(folder).__contains__
    path = local_path(folder)
    return lambda name: (path / name).is_file()


def make_engine(trained: "Trained", engine: str, name: str) -> Engine:
    """Makes the engine of a detector; for other engines than JAX, the detector is exported first.

    Args:
      trained: the detector.
      engine: one of `ENGINES`; "" for JAX.
      name: the name of the detector in messages.

    Raises:
      UserError: the engine, or a package for the export, is not installed.
    """
    if engine in ("", "jax"):
        from ssd_jax.inference.jax_engine import JaxEngine

        return JaxEngine(trained)
    return load_exported(exported_now(trained, KIND_OF[engine], name), engine)


def exported_now(trained: "Trained", kind: str, name: str) -> Exported:
    """Exports a detector to a temporary file, and returns its content.

    Args:
      trained: the detector.
      kind: the kind of file.
      name: the name of the detector in messages.

    Raises:
      UserError: a package for the export is not installed.
    """
    from ssd_jax.interop.export import write_for_engines

    with tempfile.TemporaryDirectory() as folder:
        write_for_engines(kind, trained, Path(folder))
        return Exported(kind, (Path(folder) / f"detector.{kind}").read_bytes(), name)
