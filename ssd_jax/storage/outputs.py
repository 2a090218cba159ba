"""Checks outputs: none may replace another output, an input, or a file of a run."""

import os
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path, PurePath

from ssd_jax.errors import UserError, reason_of
from ssd_jax.storage import clouds
from ssd_jax.storage.clouds import is_remote
from ssd_jax.storage.files import AnyPath, local_path

# Names of picture files end in one of these; those of charts may be drawings.
PICTURES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff")
CHARTS = (".png", ".jpg", ".jpeg", ".webp", ".svg", ".pdf")

# Texts of the pages that are written to a folder as `index.html`.
REPORT_MARK = "<footer>Written by ssd_jax.</footer>"
WEB_MARK = "<title>ssd_jax: detect objects</title>"

# The files and folders of a work directory, which no other output may replace; see
# `runs/workdir.py`.
OF_A_RUN = {
    "format.json",
    "config.json",
    "classes.json",
    "split.json",
    "data.json",
    "starts.jsonl",
    "weights.txt",
    "imported.json",
    "data_errors.jsonl",
    "checkpoints",
    "metrics.jsonl",
    "tensorboard",
    "loggers.json",
    "wandb",
    "pictures",
    "nonfinite",
    "lock",
}


def check_outputs(*places: AnyPath | None, also_remote: bool = False) -> None:
    """Checks the output files of work that takes long, before it begins; empty ones are ignored.

    Args:
      *places: the files.
      also_remote: whether they may be in an object store.

    Raises:
      UserError: two are the same, one belongs to a run, or one cannot be written (see
        `check_writable`); see also `local_path`.
    """
    known = set()
    for place in places:
        if also_remote and is_remote(place):
            if str(place) in known:
                raise UserError(f"{place} is named for two results: name another file for one")
            known.add(str(place))
            _check_no_remote_run(str(place))
        elif place:
            real = os.path.realpath(local_path(place))
            if real in known and (os.path.isfile(real) or not os.path.exists(real)):
                raise UserError(f"{place} is named for two results: name another file for one")
            known.add(real)
            _check_no_run(real)
            check_writable(place)


def check_output_files(*places: AnyPath | None, also_remote: bool = False) -> None:
    """`check_outputs` of files, whose folders must exist."""
    check_outputs(*places, also_remote=also_remote)
    for place in places:
        if not place or (also_remote and is_remote(place)):
            continue
        path = local_path(place)
        if path.is_dir():
            raise UserError(f"{place} is a folder, but must be a file: name a file in it")
        if not path.absolute().parent.exists():
            raise UserError(
                f"{place} cannot be written: the folder {path.parent} does not exist: create it"
            )


def check_picture_file(place: AnyPath | None, suffixes: Sequence[str] = PICTURES) -> None:
    """Checks that the name of an output has the suffix of a picture format; None and "" pass.

    Raises:
      UserError: it has another one, or none.
    """
    suffix = PurePath(place or "").suffix
    if place and suffix.lower() not in suffixes:
        raise UserError(
            f"{place} ends in {suffix!r}, but must be a picture, {', '.join(suffixes)}: name "
            f"{PurePath(place).stem}.png"
            if suffix
            else f"{place} must name the format of the picture by its end: name {place}.png"
        )


def check_json_file(place: AnyPath | None, suffix: str = ".json") -> None:
    """Checks the suffix of an output in JSON, so that it replaces no file of another kind.

    None and "" pass, and places that are neither files nor folders, such as /dev/stdout.

    Raises:
      UserError: it has another suffix, or none.
    """
    path = PurePath(place or "")
    if not place or path.suffix.lower() == suffix or os.fspath(place).startswith("/dev/"):
        return
    raise UserError(
        f"{place} must end in {suffix}, the format of its content: name {path.stem}{suffix}"
    )


def check_writable(place: AnyPath, tries: bool = False) -> None:
    """Checks a local file or folder that need not exist yet.

    Args:
      place: the file or folder.
      tries: whether to write, and remove, an empty folder: some file systems refuse in spite of
        their permissions.

    Raises:
      UserError: it is below a file, or in a folder that cannot be written.
    """
    real = Path(os.path.realpath(local_path(place)))
    try:
        exists = real.exists()
    except OSError as error:  # for example a name that is too long
        raise UserError(
            f"{place} cannot be written: {reason_of(error)}: name another path"
        ) from error
    if exists and not real.is_file() and not real.is_dir():
        return  # such as /dev/stdout
    folder = real if real.is_dir() else next(each for each in real.parents if each.exists())
    if not folder.is_dir():
        raise UserError(f"{place} cannot be written: {folder} is a file: name another path")
    if not os.access(folder, os.W_OK | os.X_OK):
        raise UserError(
            f"{place} cannot be written: no permission to write in {folder}: name another path"
        )
    if tries:
        try:
            os.rmdir(tempfile.mkdtemp(prefix=".ssd_jax_", dir=folder))
        except OSError as error:
            raise UserError(
                f"{place} cannot be written: no folder can be created in {folder} "
                f"({reason_of(error)}): name another path"
            ) from error


def check_outputs_in(folder: AnyPath, *names: str) -> None:
    """`check_outputs` of files in a folder, which in an object store is one place.

    Raises:
      UserError: see `check_outputs`; or the folder is the work directory of a run.
    """
    if is_remote(folder):
        check_outputs(folder, also_remote=True)
        return
    check_outputs(folder)
    if os.path.isfile(local_path(folder) / "format.json"):
        raise UserError(
            f"{folder} is the work directory of a run, and this output would be mixed with files "
            "of the run: name another"
        )
    check_outputs(*(local_path(folder) / name for name in names))


def check_output_folder(folder: AnyPath, mark: str = "") -> None:
    """Checks an output folder; an empty one is ignored.

    Args:
      folder: need not exist.
      mark: for a folder with a page, a text that all versions of this page have.

    Raises:
      UserError: it is a file, the work directory of a run, or belongs to a run; or its `index.html`
        is another page, without the mark.
    """
    if not folder:
        return
    if os.path.isfile(folder):
        raise UserError(f"{folder} is a file, but must be a folder: name another")
    check_outputs_in(folder)
    if is_remote(folder):
        return
    place = local_path(folder) / "index.html"
    if mark and place.is_file() and mark.encode() not in place.read_bytes():
        raise UserError(
            f"{place} is another page, which would be replaced: name another folder, or remove it"
        )


def check_no_input_replaced(outputs: Iterable[AnyPath], *inputs: AnyPath) -> None:
    """Checks that no output replaces an input, or a file in an input folder.

    Raises:
      UserError: an output does.
    """
    for output in outputs:
        real = os.path.realpath(output)
        for place in (os.path.realpath(each) for each in inputs):
            if real == place or os.path.dirname(real) == place:
                raise UserError(
                    f"{output} would replace an input, or a file in its folder: name another output"
                )


def _check_no_remote_run(place: str) -> None:
    """Raises a `UserError` for a run in an object store, and for its files."""
    folder, _, name = place.rstrip("/").rpartition("/")
    runs = [place, *([folder] if name.casefold() in OF_A_RUN else [])]
    for run in runs:
        if not run.endswith(":/") and clouds.exists(f"{run}/format.json"):
            raise UserError(_of_run(run))


def _check_no_run(real: str) -> None:
    """Raises a `UserError` for files of a run, and for files in its folders."""
    path = Path(real)
    for inner, folder in zip([path, *path.parents], path.parents, strict=False):
        belongs = inner.name.casefold() in OF_A_RUN  # some file systems ignore case
        if belongs and os.path.isfile(folder / "format.json"):
            raise UserError(_of_run(folder))


def _of_run(run: AnyPath) -> str:
    return (
        f"{run} is the work directory of a run, and this output would replace files of the run: "
        "name another"
    )
