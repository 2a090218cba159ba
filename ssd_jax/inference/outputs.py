"""The output folder of a prediction: its files and their names; one run may write at a time."""

import contextlib
import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import NamedTuple

import numpy as np
from PIL import Image

from ssd_jax.errors import UserError
from ssd_jax.images.drawing import draw_boxes
from ssd_jax.inference.detections import Detections, open_as_rgb
from ssd_jax.inference.inputs import Input
from ssd_jax.storage.files import LONGEST_NAME, shortened
from ssd_jax.storage.locks import LOCK, locked
from ssd_jax.storage.replacing import replacing

ANNOTATED, CROPS = "annotated", "crops"

LONGEST_LABEL = 50  # characters of a class in a file's name


class Target(NamedTuple):
    """An input file, and the name of its drawing."""

    file: Input
    name: str


class OutputFolder:
    """The drawings and crops of a run, in its output folder.

    Args:
      folder: the output folder.
      crops: whether to write an image of each object.
      files: all input files.
    """

    def __init__(self, folder: Path, crops: bool, files: Sequence[Input]) -> None:
        self._folder = folder
        self._crops = crops
        self._names = OutputNames([file.name for file in files])

    def target(self, file: Input, suffixes: Sequence[str]) -> Target:
        """Chooses a unique name with one of the suffixes for the drawing of a file."""
        return Target(file, self._names.choose(file.name, suffixes))

    @contextlib.contextmanager
    def annotated(self, target: Target) -> Iterator[Path]:
        """A block that writes a drawing to a temporary path: see `replacing`.

        If the user stops it, the incomplete file gets the name `NAME.partial.mp4`.
        """
        with self._replacing(ANNOTATED, target.name) as unfinished:
            try:
                yield unfinished
            except KeyboardInterrupt:
                stem, suffix = os.path.splitext(target.name)
                with contextlib.suppress(OSError):  # nothing was written yet
                    os.replace(unfinished, self._folder / ANNOTATED / f"{stem}.partial{suffix}")
                raise

    def write(self, target: Target, detections: Detections) -> None:
        """Writes the image with boxes and, with `crops`, an image of each object.

        Raises:
          UserError: the image cannot be read again.
          OSError: a file cannot be written.
        """
        image = open_as_rgb(detections.image)
        if self._crops:
            self._write_crops(image, detections, target.name)
        # Draws on the image itself, which is not needed any more: a copy may take hundreds of MB.
        drawn = draw_boxes(
            image,
            detections.boxes,
            detections.labels,
            detections.class_names,
            detections.scores,
        )
        with self.annotated(target) as unfinished:
            _save(drawn, unfinished)

    def _write_crops(self, image: Image.Image, detections: Detections, name: str) -> None:
        for number, (box, label) in enumerate(zip(detections.boxes, detections.names, strict=True)):
            left, top = np.minimum(box[:2], np.array(image.size) - 1).astype(int).tolist()
            right, bottom = np.ceil(box[2:]).astype(int).tolist()
            crop = image.crop((left, top, max(right, left + 1), max(bottom, top + 1)))
            label = re.sub(r"[^\w-]", "_", label)[:LONGEST_LABEL]
            file = f"{number:02d}_{label}{os.path.splitext(name)[1]}"
            with self._replacing(CROPS, name, file) as unfinished:
                _save(crop, unfinished)

    @contextlib.contextmanager
    def _replacing(self, *parts: str) -> Iterator[Path]:
        path = self._folder.joinpath(*parts)
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path, survives_power_loss=False) as unfinished:
            yield unfinished


class OutputNames:
    """Chooses unique names for output files, similar to the names of inputs.

    Args:
      names: the paths of all inputs, below their common folder; outputs have the same folders.
    """

    def __init__(self, names: Sequence[str]) -> None:
        self._taken = {
            str(folder).casefold() for name in names for folder in PurePosixPath(name).parents
        }

    def choose(self, name: str, suffixes: Sequence[str]) -> str:
        """The name itself if it has one of the suffixes, otherwise with the first suffix added.

        Args:
          name: one of the paths.
          suffixes: the suffixes in lower case.
        """
        folder, _, file = name.rpartition("/")
        stem, suffix = next(
            ((file[: -len(each)], file[-len(each) :]) for each in suffixes if _ends(file, each)),
            (file, suffixes[0]),
        )
        number, chosen = 1, ""
        while not chosen or chosen.casefold() in self._taken:  # some file systems ignore case
            addition = suffix if number == 1 else f"_{number}{suffix}"
            chosen = os.path.join(folder, shortened(stem, LONGEST_NAME - len(addition)) + addition)
            number += 1
        self._taken.add(chosen.casefold())
        return chosen


def _ends(file: str, suffix: str) -> bool:
    """Whether a file name has a suffix, and other characters before it."""
    return file.lower().endswith(suffix) and len(file) > len(suffix)


def check_apart(folder: Path, roots: Sequence[str], files: Sequence[Input]) -> None:
    """Checks that results will not be among the inputs.

    Args:
      folder: the output folder.
      roots: the folders among the arguments.
      files: the input files.

    Raises:
      UserError: the output folder is one of the folders, is inside one, or contains one of the
        files; or it contains a link to another folder.
    """
    real = os.path.realpath(folder)
    for root in map(os.path.realpath, roots):
        if real == root or _is_below(real, root):
            raise UserError(
                f"--output={folder} is inside the input folder {root}, so results would be inputs "
                "of the next run: name a folder outside of it"
            )
    for file in files:
        if _is_below(os.path.realpath(file.path), real):
            raise UserError(
                f"{file.path} is inside --output={folder}, so results could replace it: name "
                "another folder"
            )
    for name in (ANNOTATED, CROPS):
        inside = os.path.join(real, name)
        if os.path.realpath(inside) != inside:
            raise UserError(
                f"{folder / name} is a link to {os.path.realpath(inside)}, so results would "
                "replace other files: remove the link, or name another --output"
            )


def _is_below(path: str, folder: str) -> bool:
    return path.startswith(os.path.join(folder, ""))


@contextlib.contextmanager
def only_run(folder: Path) -> Iterator[None]:
    """A block in which no other run writes to an output folder; creates it if necessary.

    Raises:
      UserError: another run writes to it.
    """
    with locked(folder, "--output"):
        try:
            yield
        finally:
            # While the lock is held: a run that has opened the file meanwhile finds it removed, and
            # is rejected. Windows cannot remove open files; there, the lock removes it.
            with contextlib.suppress(OSError):
                (folder / LOCK).unlink(missing_ok=True)


def _save(image: Image.Image, path: Path) -> None:
    if path.suffix.lower() == ".png":
        image.save(path, compress_level=1)
    else:
        image.save(path, quality=90)
