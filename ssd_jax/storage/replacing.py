"""Replaces files in one step, after the new ones are complete."""

import contextlib
import os
import secrets
import shutil
from collections.abc import Iterator
from pathlib import Path

UNFINISHED = ".tmp"  # in the names of incomplete files
LONGEST_SUFFIX = 16  # characters; no writer needs a longer suffix


@contextlib.contextmanager
def replacing(path: Path, survives_power_loss: bool = True) -> Iterator[Path]:
    """A block with a path to write to; at its end, the new file replaces `path`.

    The file is in the folder of `path`, with a different name and the same suffix. If the block
    raises, or writes nothing, `path` is unchanged and nothing else is left. A path that is not a
    regular file, like `/dev/stdout`, is written directly.

    Args:
      path: the file to replace.
      survives_power_loss: whether to wait until the file is on the disk, which takes milliseconds.
        Without the wait it may be empty if the machine loses power within the next seconds.
    """
    if path.exists() and not path.is_file():
        yield path
        return
    # The file that a link points to is replaced, not the link.
    real = Path(os.path.realpath(path))
    unfinished = real.with_name(unfinished_name(real.suffix))
    try:
        yield unfinished
        if unfinished.exists():
            if survives_power_loss:
                _write_to_disk(unfinished)
            os.replace(unfinished, real)
    except BaseException as error:
        with contextlib.suppress(OSError):
            unfinished.unlink(missing_ok=True)
        if isinstance(error, OSError) and error.filename in (None, str(unfinished)):
            error.filename = str(path)  # the name that the user knows
            error.filename2 = None
        raise


@contextlib.contextmanager
def replacing_files(folder: Path, last: str) -> Iterator[Path]:
    """A block with an empty folder to write to; at its end, its files replace those of `folder`.

    Files of subfolders are replaced too. If the block raises, `folder` is unchanged and nothing
    else is left.

    Args:
      folder: created if it does not exist.
      last: the name of the file that lists the others for readers; it is replaced last.
    """
    real = Path(os.path.realpath(folder))
    is_new = not real.exists()
    real.mkdir(parents=True, exist_ok=True)
    unfinished = real / unfinished_name()
    try:
        unfinished.mkdir()
        yield unfinished
        files = [file for file in unfinished.rglob("*") if file.is_file()]
        files.sort(key=lambda file: file == unfinished / last)
        for file in files:
            _write_to_disk(file)
        for file in files:
            place = real / file.relative_to(unfinished)
            place.parent.mkdir(parents=True, exist_ok=True)
            os.replace(file, place)
    except OSError as error:
        if error.filename is None or str(unfinished) in str(error.filename):
            error.filename = str(folder)
            error.filename2 = None
        raise
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
        if is_new:
            with contextlib.suppress(OSError):  # it is usually not empty
                real.rmdir()


def unfinished_name(suffix: str = "") -> str:
    """A unique name for an incomplete file or folder."""
    suffix = suffix if len(suffix) <= LONGEST_SUFFIX else ""
    return f".{secrets.token_hex(8)}{UNFINISHED}{suffix}"


def _write_to_disk(path: Path) -> None:
    """Waits until a file is on the disk."""
    with path.open("rb+") as file:
        os.fsync(file.fileno())
