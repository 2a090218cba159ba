"""Paths of users, and files that are written whole or not at all.

Every path that a run or a command reads or writes is checked here. Files are on local or mounted
disks; a path with a scheme is an error. `copies.py` gives a local path for `gs://bucket/run` where
it is allowed, and `placeholders.py` gives one for data.
"""

import codecs
import contextlib
import errno
import io
import json
import os
import re
import stat
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

from ssd_jax.errors import UserError, reason_of
from ssd_jax.storage import objects
from ssd_jax.storage.replacing import replacing

MAX_LINE = 2**20  # characters
LONGEST_NAME = 255  # bytes of the name of a file, on most file systems

AnyPath = str | os.PathLike[str]

# `gs://…`, and `gs:/…`, as `pathlib` shortens it. A single letter is a drive of Windows.
SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+):/")
SCHEME_INSIDE = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+)://")
STORES = ("gs", "s3")
SCHEME_ALONE = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+):")  # may be the name of a file as well


def local_path(place: AnyPath) -> Path:
    """Converts a path given by a user.

    Raises:
      UserError: it is empty, begins with `~`, or has a scheme like `gs://`.
    """
    if not os.fspath(place):
        raise UserError("a path is empty: name a file or a folder")
    if Path(place).parts[:1] == ("~",):  # which shells leave in --flag=~/folder
        raise UserError(f"{place} begins with ~: write $HOME instead, which shells always replace")
    scheme = SCHEME.match(os.fspath(place))
    if scheme:
        raise _refusal(os.fspath(place), scheme[1])
    return Path(place)


def scheme_hint(place: AnyPath) -> str:
    """The end of a message about a missing path if it begins like `hub:name`; "" otherwise."""
    scheme = SCHEME_ALONE.match(os.fspath(place))
    if scheme is None or scheme[1] in STORES:
        return ""
    return f", and {scheme[1]}: is not a supported scheme: name a local path"


# Entries of a folder that are not files and cannot be read whole.
SPECIAL = {
    stat.S_IFDIR: "a folder",
    stat.S_IFIFO: "a FIFO",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}


def open_file(place: AnyPath, buffering: int = -1, reads_all: bool = True) -> BinaryIO:
    """Opens a regular file, or a link to one, to read its bytes; for a placeholder, the object.

    Every file of a user is opened here. A FIFO without a writer would block forever, and a device
    may never end. `/dev/stdin` is read if a file is redirected to it, and refused as a pipe.

    Args:
      place: the path.
      buffering: as of `open`.
      reads_all: whether all bytes will be read; of an object they are requested at once then.

    Raises:
      OSError: there is no such file, it cannot be opened, or it is not a regular file.
      StoreError: when an object is read: the store does not answer.
      ValueError: the path holds a null character.
    """
    if behind := objects.place_behind(place):
        file: Any = objects.ObjectFile(place, behind, reads_all)
        return file if buffering == 0 else io.BufferedReader(file)
    # Before it is opened as well, because opening starts an action of some devices.
    _check_regular(os.stat(place), place)
    flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
    descriptor = os.open(place, flags)
    try:
        _check_regular(os.fstat(descriptor), place)
        return os.fdopen(descriptor, "rb", buffering)
    except BaseException:
        os.close(descriptor)
        raise


def _check_regular(status: os.stat_result, place: AnyPath) -> None:
    if not stat.S_ISREG(status.st_mode):
        kind = SPECIAL.get(stat.S_IFMT(status.st_mode), "none")
        reason = f"it is {kind}, but only regular files are read"
        raise OSError(errno.EINVAL, reason, os.fspath(place))


def check_file(place: AnyPath) -> None:
    """Checks a file that a library will open by its path; raises as `open_file` does."""
    open_file(place).close()


def is_unsafe_to_read(place: AnyPath, max_bytes: int) -> bool:
    """Whether a library that reads a whole path may block forever, or run out of memory."""
    try:
        status = os.stat(place)
    except (OSError, ValueError):
        return False
    return not stat.S_ISREG(status.st_mode) or status.st_size > max_bytes


def read_bytes(place: AnyPath, max_bytes: int | None = None) -> bytes:
    """The bytes of a regular file.

    Raises:
      OSError: it cannot be read (see `open_file`), or has more than `max_bytes`.
    """
    with open_file(place) as file:
        size = file.seek(0, io.SEEK_END)
        file.seek(0)
        if max_bytes is not None and size > max_bytes:
            reason = f"it has {size:,} bytes, more than the {max_bytes:,} that are read"
            raise OSError(errno.EFBIG, reason, os.fspath(place))
        return file.read()


def shortened(name: str, most: int) -> str:
    """The beginning of a file's name, in at most `most` bytes."""
    while len(os.fsencode(name)) > most:
        name = name[:-1]
    return name


def real_paths(paths: Iterable[str]) -> Iterator[str]:
    """Absolute paths of files without links, so that paths of one file are equal."""
    folders: dict[str, tuple[str, frozenset[str]]] = {}
    for path in paths:
        before, separator, name = path.rpartition(os.sep)
        folder = before + separator
        if folder not in folders:
            folders[folder] = os.path.join(os.path.realpath(folder), ""), _links(folder)
        real, links = folders[folder]
        yield os.path.realpath(path) if name in links else real + name


def _links(folder: str) -> frozenset[str]:
    """The names of links in a folder: one look at the folder is faster than one at each file."""
    try:
        with os.scandir(folder or ".") as entries:
            return frozenset(entry.name for entry in entries if entry.is_symlink())
    except (OSError, ValueError):
        return frozenset()


def check_schemes(text: str) -> None:
    """Raises a `UserError` if a text that holds paths, like `ROOT:SPLIT`, names another store."""
    for scheme in SCHEME_INSIDE.findall(text):
        if scheme not in STORES:
            raise _refusal(text, scheme)


def _refusal(place: str, scheme: str) -> UserError:
    is_known = scheme in STORES
    told = (
        "can be read and written here" if is_known else ", gs:// and s3:// can be read and written"
    )
    return UserError(
        f"{place} begins with {scheme}://, but only local paths{' ' * is_known}{told}: "
        "name a local file or folder, or mount the storage and name the folder where it is mounted"
    )


def read_text(place: AnyPath, max_bytes: int | None = None) -> str:
    """The text of a file in UTF-8, or in UTF-16 with a byte order mark; the mark is left out.

    Args:
      place: the file.
      max_bytes: a larger file is refused unread.

    Raises:
      UserError: there is no such file, it is too large, or it is not such a text.
    """
    path = local_path(place)
    with reading_text(path):
        content = read_bytes(path, max_bytes)
        is_utf_16 = content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
        return content.decode("utf-16" if is_utf_16 else "utf-8-sig")


@contextlib.contextmanager
def reading_text(path: Path) -> Iterator[None]:
    """A block in which every error of reading a text is a `UserError`."""
    try:
        yield
    except UserError:
        raise
    except FileNotFoundError as error:
        raise UserError(f"{path} does not exist") from error
    except OSError as error:
        raise UserError(f"{path} cannot be read: {reason_of(error)}") from error
    except ValueError as error:
        raise UserError(f"{path} is not a text file in UTF-8: {error}") from error


def read_beginning(place: AnyPath, num_bytes: int) -> str:
    """The text of the first bytes of a file, to detect its kind; "" if it cannot be read.

    Invalid bytes are replaced. See `read_text`.
    """
    try:
        with open_file(local_path(place)) as file:
            return decoded(file.read(num_bytes))
    except OSError:
        return ""


def decoded(content: bytes) -> str:
    """Decodes a text in the encodings of `read_text`; invalid bytes are replaced."""
    is_utf_16 = content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    return content.decode("utf-16" if is_utf_16 else "utf-8-sig", errors="replace")


def read_lines(place: AnyPath) -> Iterator[str]:
    """Yields the lines of a text file, without their ends; see `read_text`.

    Raises:
      UserError: there is no such file, it is not such a text, or a line is longer than `MAX_LINE`.
    """
    path = local_path(place)
    with reading_text(path), open_file(path) as file:
        is_utf_16 = file.read(2) in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
        file.seek(0)
        text = io.TextIOWrapper(file, encoding="utf-16" if is_utf_16 else "utf-8-sig")
        while line := text.readline(MAX_LINE):
            if len(line) == MAX_LINE:
                raise UserError(f"{path} has a line of more than {MAX_LINE:,} characters")
            yield line.rstrip("\n")


def write_text(place: AnyPath, text: str) -> None:
    """Writes a whole file in UTF-8, or nothing if the process ends meanwhile.

    Raises:
      UserError: the path has a scheme.
    """
    with replacing(local_path(place)) as unfinished:
        unfinished.write_text(text, encoding="utf-8")


def write_bytes(place: AnyPath, content: bytes) -> None:
    """Writes a whole file, with the permissions of the user's umask.

    Raises:
      UserError: the path has a scheme.
    """
    with replacing(local_path(place)) as unfinished:
        unfinished.write_bytes(content)


def write_json(place: AnyPath, value: Any, indent: int | None = 2) -> None:
    """Writes a value as JSON, with a newline at the end; see `write_text`."""
    write_text(place, json.dumps(value, indent=indent) + "\n")


def append_json_line(place: AnyPath, value: Any) -> None:
    """Appends a value as one line of JSON; an incomplete line of a killed process is removed.

    Raises:
      UserError: the path has a scheme.
    """
    with local_path(place).open("ab+") as file:
        file.seek(0)
        file.truncate(file.read().rfind(b"\n") + 1)
        file.write(json.dumps(value).encode() + b"\n")


def read_json(place: AnyPath) -> Any:
    """The value of a JSON file.

    Raises:
      UserError: there is no such file, or it is not JSON.
    """
    path = local_path(place)
    text = read_text(path)
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path} is not JSON, or it is damaged: {error}") from error


def read_json_lines(place: AnyPath) -> list[dict[str, Any]]:
    """The objects of a file, one per line; empty without the file or for an incomplete last line.

    Raises:
      UserError: the path has a scheme, the file cannot be read, or another line is damaged.
    """
    path = local_path(place)
    if not path.exists():
        return []
    try:
        *lines, unfinished = read_bytes(path).split(b"\n")
    except OSError as error:
        raise UserError(f"{path} cannot be read: {reason_of(error)}") from error
    values = []
    for number, line in enumerate([*lines, unfinished], 1):
        try:
            value = json.loads(line.decode())
            if not isinstance(value, dict):
                raise ValueError("it is not an object")
        except (ValueError, RecursionError) as error:
            if number > len(lines):
                break
            raise UserError(
                f"{path}, line {number}, is damaged: {error}; remove the line"
            ) from error
        values.append(value)
    return values
