"""The detector that the flags of a command name."""

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
    """The detector that the flags name.

    Args:
      workdir: the work directory of a run.
      weights: or what `ssd-jax export` wrote, a folder or a file of ONNX or TFLite; or
        `hf:USER/NAME`.
      checkpoint: of the run.
      engine: one of `ENGINES`; "" for the first that runs the weights.

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
        if engine in KIND_OF:
            check_engine(engine, KIND_OF[engine], workdir)
        from ssd_jax.runs.trained import load_workdir

        return Detector(make_engine(load_workdir(workdir, checkpoint), engine, workdir))
    assert weights is not None
    if checkpoint != "best":
        raise UserError("--checkpoint goes with --workdir: --weights has only one")
    kind = exported_kind(weights)
    if kind:
        if engine == "jax":
            raise UserError(
                f"--engine is jax, but {weights} is run by {' or '.join(ENGINES_OF[kind])} alone"
            )
        engine = engine or ENGINES_OF[kind][0]
        return Detector(load_exported(read_exported(weights, kind), engine))
    if engine in KIND_OF:
        check_engine(engine, KIND_OF[engine], weights)
    from ssd_jax.interop.hub import load_pretrained

    return Detector(make_engine(load_pretrained(weights), engine, weights))


def exported_kind(weights: str) -> str:
    """The kind of file that weights are, or that their folder has; "" for arrays of JAX.

    Raises:
      UserError: a folder has two.
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
    """Tells of a name whether a folder has such a file."""
    if is_remote(folder):
        return clouds.objects_at(folder).__contains__
    path = local_path(folder)
    return lambda name: (path / name).is_file()


def make_engine(trained: "Trained", engine: str, name: str) -> Engine:
    """What runs a detector, which for another engine than JAX is exported.

    Args:
      trained: the detector.
      engine: one of `ENGINES`; "" for JAX.
      name: what messages call the detector.

    Raises:
      UserError: the engine, or what exports for it, is not installed.
    """
    if engine in ("", "jax"):
        from ssd_jax.inference.jax_engine import JaxEngine

        return JaxEngine(trained)
    return load_exported(exported_now(trained, KIND_OF[engine], name), engine)


def exported_now(trained: "Trained", kind: str, name: str) -> Exported:
    """A detector as an exported file, which is read and removed.

    Args:
      trained: the detector.
      kind: of the file.
      name: what messages call the detector.

    Raises:
      UserError: what exports it is not installed.
    """
    from ssd_jax.interop.export import write_for_engines

    with tempfile.TemporaryDirectory() as folder:
        write_for_engines(kind, trained, Path(folder))
        return Exported(kind, (Path(folder) / f"detector.{kind}").read_bytes(), name)
