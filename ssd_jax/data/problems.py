"""Damaged images and annotations: the first one stops the program, or all are left out."""

import json
import logging
import os
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from ssd_jax.config.schema import DataConfig
from ssd_jax.errors import UserError, counted

logger = logging.getLogger(__name__)

ERRORS_FILE = "data_errors.jsonl"

# Numbers beyond this, in pixels, are those of no image.
MAX_PIXEL = 1e9

# What to do about each kind of problem.
FIXES = {
    "ambiguous": "give the images different names, or say in the annotation which one it is",
    "annotation missing": "an image without objects needs an annotation file without <object> in "
    "it; or take the image out of the data",
    "annotation unreadable": "write the annotation anew, or take the image out of the data",
    "annotation form": "fix the entry, or take it out",
    "box": "fix the box, or take the object out",
    "class missing": "give the object its class, or take it out",
    "class unknown": "fix the annotation, name the class in config.data.classes, or say with "
    "config.data.class_map=FOUND=MEANT what it is (FOUND= leaves its objects out)",
    "file name": "name a file inside the folder of the images",
    "listed twice": "keep one of them",
    "image missing": "put the image there, or take it out of the annotations",
    "image unreadable": "replace the file, or take the image out of the data",
    "size": "write the image's width and height in pixels into the annotation",
    "size differs": "write the image's own size into the annotation and see that its boxes are "
    "pixels of it, or take the image that was annotated",
    "turned": "annotate the image as it is seen, or take the orientation out of its EXIF",
    "unit": "convert the boxes, or take the format that has this unit",
}


class Problem(NamedTuple):
    """Something that is wrong with an image or its annotation.

    Attributes:
      kind: of `FIXES`.
      message: what, without the file's name.
    """

    kind: str
    message: str


class Found(NamedTuple):
    """An image with what is wrong with it.

    Attributes:
      file: where that is.
      image_id: what results call the image.
      problems: one or more.
    """

    file: str
    image_id: str
    problems: tuple[Problem, ...]


class Problems:
    """Collects damaged images: stops at the first, or lists them until they are too many.

    Where `on_error` is "skip", the caller of `add` leaves the image out.

    Attributes:
      num_images: how many there are, the damaged ones among them.
      found: the damaged ones, each once.
    """

    def __init__(
        self,
        on_error: str = "stop",
        max_error_fraction: float = 0.0,
        file: Path | None = None,
        is_main_process: bool = True,
    ):
        """Makes one for some data.

        Args:
          on_error: "stop" or "skip".
          max_error_fraction: how much of the data may be left out.
          file: where damaged images are listed, a JSON object a line; added to what is there.
          is_main_process: every process reads all annotations, but one alone lists what it finds.

        Raises:
          UserError: an argument is out of range.
        """
        if on_error not in ("stop", "skip"):
            raise UserError(f"config.data.on_error is {on_error!r}, but must be 'stop' or 'skip'")
        if not 0 <= max_error_fraction <= 1:
            raise UserError(
                f"config.data.max_error_fraction is {max_error_fraction}, but must be between 0 "
                "and 1"
            )
        self.skips = on_error == "skip"
        self.num_images = 0
        self._max_error_fraction = max_error_fraction
        self._file = file
        self._is_main_process = is_main_process
        self._reading = True
        self._found: dict[tuple[str, str], list[Problem]] = {}

    @property
    def found(self) -> list[Found]:
        return [
            Found(file, image_id, tuple(problems))
            for (file, image_id), problems in self._found.items()
        ]

    def add(
        self, file: str | Path, image_id: str, problems: Sequence[Problem], tells: bool = True
    ) -> None:
        """Adds a damaged image.

        Args:
          file: where the damage is.
          image_id: what results call the image.
          problems: what is wrong, one or more.
          tells: whether this process lists it, of those that add it.

        Raises:
          UserError: damaged images stop, or these are too many.
        """
        if not self.skips:
            kind, message = problems[0]
            raise UserError(f"{file}: {message}: {FIXES[kind]}")
        place = (str(file), image_id)
        is_new = place not in self._found
        known = self._found.setdefault(place, [])
        known += [problem for problem in problems if problem not in known]
        if is_new and not self._reading:
            if tells:
                logger.warning("left out: %s: %s", file, problems[0].message)
                self._list([place])
            self.check()

    def add_unreadable(self, path: str, image_id: str, reason: str, tells: bool = True) -> None:
        """Adds an image that cannot be read; see `add`.

        Args:
          path: its file; empty for those of TFDS, which are in no file of their own.
          image_id: what results call it.
          reason: what is wrong with it.
          tells: see `add`.
        """
        self.add(path or image_id, image_id, [Problem("image unreadable", reason)], tells)

    def finish_reading(self) -> None:
        """To be called when all annotations are read; lists what was found.

        Raises:
          UserError: too many images are damaged.
        """
        self._reading = False
        if not self._found:
            return
        self._list_read()
        place, problems = next(iter(self._found.items()))
        listed = f", listed in {self._file}" if self._file else ""
        logger.warning(
            "left out %d of %s%s; the first: %s: %s",
            len(self._found),
            counted(self.num_images, "image"),
            listed,
            place[0],
            problems[0].message,
        )
        self.check()

    def check(self) -> None:
        """Raises a `UserError` where more images are damaged than may be, or all; lists them."""
        bad, total = len(self._found), self.num_images
        if bad >= total > 0:
            self._list_read()
            place, problems = next(iter(self._found.items()))
            raise UserError(
                f"all of {counted(total, 'image')} are damaged, so there is nothing to learn from "
                f"or to measure on; the first: {place[0]}: {problems[0].message}"
            )
        if bad > self._max_error_fraction * total:
            self._list_read()
            place, problems = next(iter(self._found.items()))
            listed = f"they are listed in {self._file}; " if self._file else ""
            raise UserError(
                f"{bad} of {counted(total, 'image')} ({bad / max(total, 1):.1%}) found damaged so "
                f"far, more than config.data.max_error_fraction={self._max_error_fraction:g} "
                f"allows; the first: {place[0]}: {problems[0].message}; {listed}ssd-jax check-data "
                "--source=… counts all and shows how to fix them"
            )

    def _list_read(self) -> None:
        """Lists what all processes find alike."""
        if self._is_main_process:
            self._list(self._found)

    def _list(self, places: Iterable[tuple[str, str]]) -> None:
        """Appends images to the file that are not in it, as from an earlier start of the run."""
        if self._file is None:
            return
        self._file.parent.mkdir(parents=True, exist_ok=True)
        with self._file.open("a+", encoding="utf-8", errors="replace") as file:
            file.seek(0)
            text = file.read()
            listed = _places(text)
            if text and not text.endswith("\n"):  # a killed run left half a line
                file.write("\n")
            for place in places:
                if place not in listed:
                    messages = [problem.message for problem in self._found[place]]
                    line = {"file": place[0], "image_id": place[1], "problems": messages}
                    file.write(json.dumps(line) + "\n")


def make_problems(
    settings: DataConfig, workdir: str | Path | None = None, is_main_process: bool = True
) -> Problems:
    """`Problems` as a config wants them, listed in a work directory.

    Raises:
      UserError: see `Problems`.
    """
    return Problems(
        settings.on_error,
        settings.max_error_fraction,
        None if workdir is None else Path(workdir) / ERRORS_FILE,
        is_main_process,
    )


def about_image(message: str, name: str, file: str) -> str:
    """A message with the name of an image, unless the file that it is about is called like it."""
    is_named = re.search(rf"(?<!\w){re.escape(Path(name).stem)}(?!\w)", Path(file).name)
    return message if is_named else f"{name}: {message}"


def file_exists(path: str | Path) -> bool:
    """Whether there is such a file; a name that can belong to none is no error."""
    return os.path.isfile(path)


def _places(text: str) -> set[tuple[str, str]]:
    """File and image of every line that is whole."""
    places = set()
    for line in text.splitlines():
        try:
            entry = json.loads(line)
            places.add((entry["file"], entry["image_id"]))
        except (ValueError, TypeError, KeyError):
            continue
    return places
