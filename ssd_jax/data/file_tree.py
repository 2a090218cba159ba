"""Lists the files below a folder, and finds images by their names in annotations."""

import collections
import functools
import os
import unicodedata
import urllib.parse
from collections.abc import Iterator
from pathlib import Path, PurePosixPath, PureWindowsPath

from ssd_jax.data.problems import Problem
from ssd_jax.data.split_names import is_split
from ssd_jax.errors import UserError, reason_of, shown

IMAGE_SUFFIXES = frozenset(
    ".jpg .jpeg .jpe .jfif .png .webp .gif .bmp .tif .tiff .ppm .pgm .pnm .jp2 .avif".split()  # noqa: SIM905
)


def alike(name: str) -> str:
    """A key of a name; names have the same key if only capitals or the form of accents differ.

    macOS decomposes letters with accents; other systems do not.
    """
    return (name if name.isascii() else unicodedata.normalize("NFC", name)).lower()


def without_server(name: str) -> str:
    """The file name of a URL, without the server's folders; other names are unchanged."""
    return urllib.parse.urlsplit(name).path.rpartition("/")[2] if "://" in name else name


# The files of a work directory; inside a data set, it is not part of the data.
RUN_FILES = {"config.json", "classes.json", "format.json"}


class FileTree:
    """All files below a folder except hidden ones, in alphabetical order.

    Attributes:
      root: the folder.
      files: the paths from the folder, with `/` on every system.
    """

    def __init__(self, root: Path, files: tuple[str, ...] | None = None):
        """Lists a folder; if given, `files` are used instead.

        Raises:
          UserError: the folder cannot be listed.
        """
        self.root = root
        self.files = tuple(_walk(root)) if files is None else files

    def with_suffix(self, *suffixes: str) -> list[str]:
        """The files with one of these suffixes, in small letters like `.json`."""
        return [file for file in self.files if _suffix(file) in suffixes]

    @functools.cached_property
    def images(self) -> list[str]:
        """The image files."""
        return [file for file in self.files if _suffix(file) in IMAGE_SUFFIXES]

    def path(self, file: str) -> Path:
        """The path of one of the files."""
        return self.root / file

    def image(self, name: str) -> Path | Problem:
        """Finds the image for a path in an annotation; a problem if none or several match.

        These are tried in turn:
        1. the path from the root;
        2. the end of the path from the root, because the path may include the root, and the data
           may have been moved;
        3. the same end below a folder of the root.

        Each may be in Windows' form, have other capitals, another Unicode form, or the escapes of
        URLs. Paths outside the root, and images of another split with the same name, are rejected.

        Args:
          name: the path or name in the annotation.
        """
        if name in self.places:
            return self.root / name
        name = without_server(name)
        inside = self.inside(name)
        if inside is None:
            return Problem("file name", f"{shown(name)} is outside {self.root}")
        for candidate in dict.fromkeys((inside, urllib.parse.unquote(inside))):
            parts = candidate.split("/")
            for start in range(len(parts)):
                if not self._may_be_left_out(parts[:start]):
                    break
                found = self._ending_in(parts[start:], anywhere=not start or start < len(parts) - 1)
                if len(found) == 1:
                    return self.root / found[0]
                if found:
                    message = f"{shown(name)} may be any of {len(found)} images in {self.root}"
                    return Problem("ambiguous", f"{message}: {', '.join(found[:3])}")
        return Problem("image missing", f"{shown(name)} is not in {self.root}")

    def _ending_in(self, parts: list[str], anywhere: bool) -> list[str]:
        """The images at this path: from the root, or else, if `anywhere`, from a folder below."""
        path = "/".join(parts)
        if path in self._image_set:
            return [path]
        if similar := self._by_likeness.get(alike(path)):
            return similar
        if not anywhere:
            return []
        named = self._by_end.get(alike("/".join(parts[-2:])), [])
        exact = [file for file in named if file.endswith(f"/{path}")]
        return exact or [file for file in named if alike(file).endswith(f"/{alike(path)}")]

    def _may_be_left_out(self, folders: list[str]) -> bool:
        """Whether the first folders of an annotation's path may be ignored.

        The name of a split may be ignored only if the root has it too: train/1.jpg is not
        val/1.jpg.
        """
        own = [self.root.absolute().parts]
        if own[0][-1:] and own[0][-1].lower() in ("images", "image", "imgs", "jpegimages"):
            own.append(own[0][:-1])
        return all(
            not is_split(folder)
            or any(
                tuple(folders[i:end]) == parts[i - end :]
                for end in range(i + 1, len(folders) + 1)
                for parts in own
            )
            for i, folder in enumerate(folders)
        )

    def image_of_stem(self, stem: str, file_name: str = "") -> Path | Problem:
        """The image with this path from the root, without its suffix.

        Args:
          stem: a path like `a`, or `vid1/a`.
          file_name: the image's name in the annotation, which selects one of several images.
        """
        stem = stem.replace("\\", "/")
        found = self._by_stem.get(stem) or self._by_similar_stem.get(alike(stem), [])
        if len(found) > 1:
            name = PureWindowsPath(file_name).name
            named = [file for file in found if file.rpartition("/")[2] == name]
            if len(named) != 1:
                listed = " and ".join(file.rpartition("/")[2] for file in found)
                return Problem("ambiguous", f"{shown(stem)} may be {listed} in {self.root}")
            found = named
        if not found:
            return Problem("image missing", f"{shown(stem)} is not an image in {self.root}")
        return self.root / found[0]

    def inside(self, name: str) -> str | None:
        """A path from the root, in the form of `files`; None if it is outside the root."""
        windows = PureWindowsPath(name)
        if PurePosixPath(name).is_absolute() or windows.is_absolute():
            for root in (self.root, self.root.absolute(), self.root.resolve()):
                with_root = name.replace("\\", "/")
                prefix = root.as_posix().rstrip("/") + "/"
                if with_root.startswith(prefix):
                    name = with_root[len(prefix) :]
                    break
            else:
                return None
        parts: list[str] = []
        for part in name.replace("\\", "/").split("/"):
            if part == "..":
                if not parts:
                    return None
                parts.pop()
            elif part not in ("", "."):
                parts.append(part)
        return "/".join(parts)

    @functools.cached_property
    def places(self) -> dict[str, int]:
        """The index of each file in `files`."""
        return {file: index for index, file in enumerate(self.files)}

    @functools.cached_property
    def _image_set(self) -> frozenset[str]:
        return frozenset(self.images)

    @functools.cached_property
    def _by_likeness(self) -> dict[str, list[str]]:
        return _grouped((alike(file), file) for file in self.images)

    @functools.cached_property
    def _by_end(self) -> dict[str, list[str]]:
        """The images by the keys (`alike`) of their names, and of their names with their folder.

        Names alone are not enough: thousands of folders may each have a 000001.jpg.
        """
        parts = ((file, alike(file).split("/")) for file in self.images)
        return _grouped(
            ("/".join(own[-count:]), file) for file, own in parts for count in (1, 2)[: len(own)]
        )

    @functools.cached_property
    def _by_stem(self) -> dict[str, list[str]]:
        return _grouped((file[: -len(_suffix(file))], file) for file in self.images)

    @functools.cached_property
    def _by_similar_stem(self) -> dict[str, list[str]]:
        return _grouped((alike(file[: -len(_suffix(file))]), file) for file in self.images)


def _walk(root: Path) -> list[str]:
    """The paths of the files below a folder, in order; links to folders are followed once."""
    found: list[str] = []
    seen = set()
    waiting = [(str(root), "")]
    while waiting:
        folder, prefix = waiting.pop()
        real = os.path.realpath(folder)
        if real in seen:  # reached again by a link
            continue
        seen.add(real)
        files: list[str] = []
        folders: list[str] = []
        try:
            with os.scandir(folder) as entries:
                for entry in entries:
                    name = entry.name
                    try:
                        is_folder = entry.is_dir()
                    except OSError:  # a link to itself, or into a folder without permission
                        is_folder = False
                    (folders if is_folder else files).append(name)
        except OSError as error:
            raise UserError(f"{folder} cannot be listed: {reason_of(error)}") from error
        if prefix and RUN_FILES.issubset(files):
            continue
        found += [prefix + name for name in sorted(files) if not name.startswith(".")]
        waiting += [
            (os.path.join(folder, name), f"{prefix}{name}/")
            for name in sorted(folders, reverse=True)
            if not name.startswith(".") and name != "__MACOSX"
        ]
    return found


def _suffix(file: str) -> str:
    name = file.rpartition("/")[2]
    stem, dot, suffix = name.rpartition(".")
    return f".{suffix.lower()}" if dot and stem else ""


def _grouped(pairs: Iterator[tuple[str, str]]) -> dict[str, list[str]]:
    groups: dict[str, list[str]] = collections.defaultdict(list)
    for key, value in pairs:
        groups[key].append(value)
    return dict(groups)
