"""SHA-256 checksums of the files of a folder, stored in it in the format of `sha256sum`.

`sha256sum -c SHA256SUMS`, run in the folder, makes the same checks.
"""

import contextlib
import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path

from ssd_jax.errors import UserError, reason_of, shown
from ssd_jax.storage.files import open_file, read_text, write_text

CHECKSUMS_FILE = "SHA256SUMS"


class DamageError(Exception):
    """A file differs from the written one; the message names it and the damage."""


def write_checksums(folder: Path, names: Iterable[str], destination: Path | None = None) -> None:
    """Writes `SHA256SUMS` into a folder.

    Args:
      folder: the folder.
      names: of files and folders in it; a folder means all files in it.
      destination: the later folder of its files; the checksums of other files there are kept, so
        that one folder may contain several exports.
    """
    _write(folder, {name: digest(folder / name) for name in _files(folder, names)})
    if destination is not None and (destination / CHECKSUMS_FILE).is_file():
        before = (destination / CHECKSUMS_FILE).read_bytes()
        keep_checksums(folder, before, lambda name: (destination / name).is_file())


def keep_checksums(folder: Path, before: bytes, exists: Callable[[str], bool]) -> None:
    """Adds the checksums of other files to those of a folder.

    Args:
      folder: the folder, with `SHA256SUMS`.
      before: an earlier `SHA256SUMS` of the destination of its files; ignored if it is damaged.
      exists: whether a file exists in the destination. Checksums of others are not added.
    """
    with contextlib.suppress(DamageError):
        sums = {name: of for name, of in _lines(before) if exists(name)}
        _write(folder, sums | dict(_read(folder / CHECKSUMS_FILE)))


def listed_checksums(content: bytes | None) -> dict[str, str]:
    """The checksums by file that the bytes of a `SHA256SUMS` list; none if they are damaged."""
    with contextlib.suppress(DamageError):
        return dict(_lines(content or b""))
    return {}


def _write(folder: Path, sums: Mapping[str, str]) -> None:
    lines = [f"{sums[name]}  {name}\n" for name in sorted(sums)]
    write_text(folder / CHECKSUMS_FILE, "".join(lines))


def verify_checksums(folder: Path, names: Iterable[str]) -> None:
    """Compares files with the checksums of their folder; other files are ignored.

    A folder of an older version has no `SHA256SUMS`, and nothing is compared. Otherwise every named
    file must have a line in it.

    Args:
      folder: the folder.
      names: see `write_checksums`.

    Raises:
      DamageError: a file has changed, is missing or has no checksum, or the checksums themselves
        are damaged.
    """
    if not (folder / CHECKSUMS_FILE).exists():
        return
    listed = dict(_read(folder / CHECKSUMS_FILE))
    for wanted in names:
        inside = [name for name in listed if name == wanted or name.startswith(f"{wanted}/")]
        unlisted = [name for name in _files(folder, [wanted]) if name not in listed]
        if unlisted or not inside:
            name = unlisted[0] if unlisted else wanted
            raise DamageError(f"{CHECKSUMS_FILE} is damaged itself: it has no line for {name}")
        for name in inside:
            try:
                found = digest(folder / name)
            except OSError as error:
                raise DamageError(f"{name} cannot be read: {reason_of(error)}") from error
            if found != listed[name]:
                raise DamageError(f"{name} differs from its checksum in {CHECKSUMS_FILE}")


def _files(folder: Path, names: Iterable[str]) -> Iterator[str]:
    """The paths of all files below a folder that some names mean, ascending."""
    for name in sorted(names):
        place = folder / name
        found = sorted(place.rglob("*")) if place.is_dir() else [place]
        yield from (path.relative_to(folder).as_posix() for path in found if path.is_file())


def digest(file: Path) -> str:
    """The SHA-256 of a file, as 64 hexadecimal digits.

    Raises:
      OSError: the file cannot be read.
    """
    with open_file(file) as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()  # pyright: ignore[reportArgumentType]


def _read(file: Path) -> Iterator[tuple[str, str]]:
    """Names and checksums."""
    try:
        yield from _lines(read_text(file).encode())
    except UserError as error:
        raise DamageError(str(error)) from error


def _lines(content: bytes) -> Iterator[tuple[str, str]]:
    for line in content.decode(errors="replace").splitlines():
        digest, separator, name = line.partition("  ")
        if len(digest) != 64 or not separator or not name:
            raise DamageError(f"{CHECKSUMS_FILE} is damaged itself: it has the line {shown(line)}")
        yield name, digest
