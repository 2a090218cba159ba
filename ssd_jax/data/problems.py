"""Handles damaged images and annotations: the first one stops the program, or all are left out."""

import json
import logging
import math
import os
import re
import shlex
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from ssd_jax.config.schema import DataConfig
from ssd_jax.errors import UserError, as_named, counted

logger = logging.getLogger(__name__)

ERRORS_FILE = "data_errors.jsonl"

# The largest coordinate, in pixels; no image is larger.
MAX_PIXEL = 1e9

# The fix for each kind of problem.
FIXES = {
    "ambiguous": "give the images different names, or name the right one in the annotation",
    "annotation missing": "an image without objects needs an annotation file without <object> in "
    "it; or remove the image from the data",
    "annotation unreadable": "write the annotation again, or remove the image from the data",
    "annotation form": "fix the entry, or remove it",
    "box": "fix the box, or remove the object",
    "class missing": "give the object a class, or remove it",
    "class number": "fix the number, or name all classes where they are listed: names in "
    "data.yaml, lines in classes.txt, categories in COCO's JSON",
    "class unknown": "fix the annotation, name the class in config.data.classes, or set "
    "config.data.class_map=FOUND=RIGHT (FOUND= leaves its objects out)",
    "file name": "name a file inside the folder of the images",
    "listed twice": "keep one of them",
    "image missing": "add the image, or remove it from the annotations",
    "image unreadable": "replace the file, or remove the image from the data",
    "size": "write the image's width and height in pixels into the annotation",
    "size differs": "write the size of the image into the annotation and check that its boxes are "
    "in its pixels, or use the image that was annotated",
    "turned": "annotate the upright image, or remove the orientation from its EXIF",
    "unit": "convert the boxes, or use the format with this unit",
}
SKIP = ", or leave out such images with --config.data.on_error=skip"


class Problem(NamedTuple):
    """A problem of an image or its annotation.

    Attributes:
      kind: a key of `FIXES`.
      message: the description, without the name of the file.
    """

    kind: str
    message: str


class Found(NamedTuple):
    """A damaged image.

    Attributes:
      file: the file with the problems.
      image_id: the name of the image in results.
      problems: one or more problems.
    """

    file: str
    image_id: str
    problems: tuple[Problem, ...]


class Problems:
    """Collects damaged images: stops at the first one, or lists them up to a limit.

    If `on_error` is "skip", the caller of `add` leaves the image out.

    Attributes:
      num_images: the number of images, including damaged ones.
      found: the damaged images, each once.
      source: the data in the words of the user, for messages.
    """

    def __init__(
        self,
        on_error: str = "stop",
        max_error_fraction: float = 0.0,
        file: Path | None = None,
        is_main_process: bool = True,
    ):
        """Begins without damaged images.

        Args:
          on_error: "stop" or "skip".
          max_error_fraction: the largest fraction of images that may be left out, rounded up to
            whole images.
          file: the list of damaged images, one JSON object per line; new ones are appended.
          is_main_process: whether this process writes the list; all processes read all annotations.

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
        self.source = ""
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
        self, file: str | Path, image_id: str, problems: Sequence[Problem], lists: bool = True
    ) -> None:
        """Adds a damaged image.

        Args:
          file: the damaged file.
          image_id: the name of the image in results.
          problems: one or more problems.
          lists: whether this process logs and lists the image; other processes add it, too.

        Raises:
          UserError: damaged images stop the program, or there are too many of them.
        """
        if not self.skips:
            kind, message = problems[0]
            skips = SKIP if kind == "image unreadable" else ""
            raise UserError(f"{file}: {message}: {FIXES[kind]}{skips}")
        place = (as_named(str(file)), image_id)
        is_new = place not in self._found
        known = self._found.setdefault(place, [])
        known += [problem for problem in problems if problem not in known]
        if is_new and not self._reading:
            if lists:
                logger.warning("left out: %s: %s", file, problems[0].message)
                self._list([place])
            self.check()

    def add_unreadable(self, path: str, image_id: str, reason: str, lists: bool = True) -> None:
        """Adds an image that cannot be read; see `add`.

        Args:
          path: its file; empty for images of TFDS, which are inside larger files.
          image_id: the name of the image in results.
          reason: the problem.
          lists: see `add`.
        """
        self.add(path or image_id, image_id, [Problem("image unreadable", reason)], lists)

    def finish_reading(self) -> None:
        """Lists the damaged images; must be called when all annotations are read.

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
        """Raises a `UserError` if too many images are damaged, or all; lists them before."""
        bad, total = len(self._found), self.num_images
        if bad >= total > 0:
            self._list_read()
            place, problems = next(iter(self._found.items()))
            raise UserError(
                f"all of {counted(total, 'image')} are damaged, so none is left for training or "
                f"evaluation; the first: {place[0]}: {problems[0].message}"
            )
        most = math.ceil(round(self._max_error_fraction * total, 6))
        if bad > most:
            self._list_read()
            place, problems = next(iter(self._found.items()))
            listed = f"they are listed in {self._file}; " if self._file else ""
            raise UserError(
                f"{bad} of {counted(total, 'image')} ({bad / max(total, 1):.1%}) are damaged so "
                f"far, more than the {most} that config.data.max_error_fraction="
                f"{self._max_error_fraction:g} allows; the first: {place[0]}: "
                f"{problems[0].message}; {listed}{check_command(self.source)} counts all and shows "
                "how to fix them; to leave them out set --config.data.max_error_fraction="
                f"{math.ceil(100 * bad / max(total, 1)) / 100:g}"
            )

    def _list_read(self) -> None:
        """Lists the problems of reading, which all processes find."""
        if self._is_main_process:
            self._list(self._found)

    def _list(self, places: Iterable[tuple[str, str]]) -> None:
        """Appends images to the file, except images listed by an earlier start of the run."""
        if self._file is None:
            return
        self._file.parent.mkdir(parents=True, exist_ok=True)
        with self._file.open("a+", encoding="utf-8", errors="replace") as file:
            file.seek(0)
            text = file.read()
            listed = _places(text)
            if text and not text.endswith("\n"):  # half a line of a killed run
                file.write("\n")
            for place in places:
                if place not in listed:
                    messages = [problem.message for problem in self._found[place]]
                    line = {"file": place[0], "image_id": place[1], "problems": messages}
                    file.write(json.dumps(line) + "\n")


def make_problems(
    settings: DataConfig, workdir: str | Path | None = None, is_main_process: bool = True
) -> Problems:
    """Makes `Problems` with the settings of a config; lists them in a work directory.

    Raises:
      UserError: see `Problems`.
    """
    return Problems(
        settings.on_error,
        settings.max_error_fraction,
        None if workdir is None else Path(workdir) / ERRORS_FILE,
        is_main_process,
    )


def check_command(source: str) -> str:
    """The command that checks a data source, for messages."""
    return f"ssd-jax check-data --source={shlex.quote(source)}"


def about_image(message: str, name: str, file: str) -> str:
    """Adds the name of an image to a message, unless the file has the same name."""
    is_named = re.search(rf"(?<!\w){re.escape(Path(name).stem)}(?!\w)", Path(file).name)
    return message if is_named else f"{name}: {message}"


def file_exists(path: str | Path) -> bool:
    """Whether a file exists; False for invalid names."""
    return os.path.isfile(path)


def _places(text: str) -> set[tuple[str, str]]:
    """The file and image of every complete line."""
    places = set()
    for line in text.splitlines():
        try:
            entry = json.loads(line)
            places.add((entry["file"], entry["image_id"]))
        except (ValueError, TypeError, KeyError):
            continue
    return places
