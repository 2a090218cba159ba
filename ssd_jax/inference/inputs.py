"""Finds the images and videos that the arguments of a command name."""

import glob
import os
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import NamedTuple

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
      path: where it is.
      name: what results call it: its path below the folder that all arguments have in common.
    """

    path: str
    name: str


def find_files(arguments: Sequence[str], output: Path) -> tuple[list[Input], list[str]]:
    """The files that arguments name, each once, in the order of the arguments.

    A folder stands for the images and videos in it and below it; a file for itself, whatever its
    name; and a pattern like `pictures/**/*.jpg` for the files that match.

    Args:
      arguments: files, folders and patterns.
      output: a folder to be left out, though it may lie in one of them.

    Returns:
      The files, among them those that are named and do not exist; and the folders and patterns
      that stand for none.
    """
    found, roots, empty = {}, [], []
    for argument in arguments:
        root, files = _expand(argument, output)
        roots.append(root)
        # By their absolute paths, so that no file comes twice.
        before = len(found)
        found |= {
            os.path.abspath(file): file for file in files if os.path.abspath(file) not in found
        }
        if len(found) == before and not files:
            empty.append(argument)
    if not found:
        return [], empty
    common = os.path.commonpath(roots)
    return [
        Input(file, Path(os.path.relpath(absolute, common)).as_posix())
        for absolute, file in found.items()
    ], empty


def is_video(file: str) -> bool:
    """Whether a file is taken for a video, by its name."""
    return Path(file).suffix.lower() in VIDEO_SUFFIXES


class OutputNames:
    """Names for output files, like those of the inputs but never the same twice."""

    def __init__(self) -> None:
        self._taken = set()

    def choose(self, name: str, suffixes: Sequence[str]) -> str:
        """The name itself where it has one of the suffixes, otherwise with the first one added."""
        path = PurePosixPath(name)
        if path.suffix.lower() not in suffixes:
            path = path.with_name(path.name + suffixes[0])
        chosen, number = path, 1
        while str(chosen).casefold() in self._taken:  # for some file systems A is a
            number += 1
            chosen = path.with_name(f"{path.stem}_{number}{path.suffix}")
        self._taken.add(str(chosen).casefold())
        return str(chosen)


def _expand(argument: str, output: Path) -> tuple[str, list[str]]:
    """The folder that an argument begins in, and its files."""
    if os.path.isdir(argument):
        return os.path.abspath(argument), list(_walk(argument, output))
    if glob.has_magic(argument) and not os.path.lexists(argument):
        files = [file for file in glob.glob(argument, recursive=True) if os.path.isfile(file)]
        parts = Path(os.path.abspath(argument)).parts
        fixed = next(i for i, part in enumerate(parts) if glob.has_magic(part))
        return os.path.join(*parts[:fixed]), sorted(files)
    return os.path.dirname(os.path.abspath(argument)), [argument]


def _walk(folder: str, output: Path) -> Iterator[str]:
    for parent, folders, files in os.walk(folder):
        folders[:] = sorted(
            name for name in folders if Path(parent, name).resolve() != output.resolve()
        )
        for name in sorted(files):
            if Path(name).suffix.lower() in IMAGE_SUFFIXES | VIDEO_SUFFIXES:
                yield os.path.join(parent, name)
