"""Finds the images and videos named by the arguments of a command."""

import glob
import os
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from ssd_jax.storage.clouds import is_remote
from ssd_jax.storage.copies import local_copy
from ssd_jax.storage.files import local_path

IMAGE_SUFFIXES = {
    *(".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff"),
    *(".ppm", ".pgm", ".pbm", ".pnm", ".jp2", ".avif"),
}
VIDEO_SUFFIXES = {
    *(".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi", ".mpg", ".mpeg", ".ts", ".wmv", ".flv"),
}


class Input(NamedTuple):
    """A file.

    Attributes:
      path: its path.
      name: its name in results: the path below the common folder of all arguments.
    """

    path: str
    name: str


class Found(NamedTuple):
    """The files of arguments.

    Attributes:
      files: the files, including named files that do not exist.
      empty: the folders and patterns without files.
      unreadable: the errors of folders that could not be listed.
    """

    files: list[Input]
    empty: list[str]
    unreadable: list[OSError]


def find_files(arguments: Sequence[str]) -> Found:
    """Finds the files of arguments, each once, in the order of the arguments.

    A folder names the images and videos in it and below it; a file, with any suffix, names itself;
    a pattern like `pictures/**/*.jpg` names the matching files.
    """
    found: dict[str, str] = {}
    roots, empty, unreadable = [], [], []
    for argument in arguments:
        before = len(unreadable)
        root, files = _expand(argument, unreadable)
        roots.append(root)
        for file in files:  # by absolute path, so that no file is repeated
            found.setdefault(os.path.abspath(file), file)
        if not files and len(unreadable) == before:
            empty.append(argument)
    if not found:
        return Found([], empty, unreadable)
    common = os.path.commonpath(roots)
    inputs = [
        Input(file, Path(os.path.relpath(absolute, common)).as_posix())
        for absolute, file in found.items()
    ]
    return Found(inputs, empty, unreadable)


def input_copy(argument: str) -> str:
    """An argument as a local path or pattern; files in an object store are copied first.

    Raises:
      UserError: see `local_copy`.
    """
    if not is_remote(argument):
        return str(local_path(argument))
    folder, pattern = argument, ""
    while glob.has_magic(folder):
        folder, _, part = folder.rpartition("/")
        pattern = f"{part}/{pattern}" if pattern else part
    return str(local_copy(folder, _of_media) / pattern)


def _of_media(names: Collection[str]) -> list[str]:
    """The images and videos among files."""
    return [name for name in names if Path(name).suffix.lower() in IMAGE_SUFFIXES | VIDEO_SUFFIXES]


def is_video(file: str) -> bool:
    """Whether a file has the suffix of a video."""
    return Path(file).suffix.lower() in VIDEO_SUFFIXES


def _expand(argument: str, unreadable: list[OSError]) -> tuple[str, list[str]]:
    """The first folder of an argument, and its files; collects errors of listing folders."""
    if os.path.isdir(argument):
        return os.path.abspath(argument), list(_walk(argument, unreadable))
    if glob.has_magic(argument) and not os.path.lexists(argument):
        files = [file for file in glob.glob(argument, recursive=True) if os.path.isfile(file)]
        parts = Path(os.path.abspath(argument)).parts
        fixed = next(i for i, part in enumerate(parts) if glob.has_magic(part))
        return os.path.join(*parts[:fixed]), sorted(files)
    return os.path.dirname(os.path.abspath(argument)), [argument]


def _walk(folder: str, unreadable: list[OSError]) -> Iterator[str]:
    for parent, folders, files in os.walk(folder, onerror=unreadable.append):
        folders.sort()
        for name in sorted(files):
            if Path(name).suffix.lower() in IMAGE_SUFFIXES | VIDEO_SUFFIXES:
                yield os.path.join(parent, name)
