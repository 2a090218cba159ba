"""Finds the label files of YOLO, and recognizes their format."""

import os
from pathlib import Path

from ssd_jax.data.file_tree import alike
from ssd_jax.data.formats.values import number
from ssd_jax.data.formats.yolo_layout import NAME_FILES
from ssd_jax.data.problems import file_exists
from ssd_jax.errors import UserError
from ssd_jax.storage.files import read_text

# Larger label files are not read.
MAX_BYTES = 16 * 2**20
IMAGE_FOLDERS = ("images", "jpegimages")


def label_places(image: Path) -> list[Path]:
    """Possible label files of an image, in order: in Ultralytics' layouts, or next to it."""
    parts = list(image.parts)
    places = []
    for i in reversed(range(len(parts) - 1)):
        if parts[i].lower() in IMAGE_FOLDERS:
            for name in ("labels", "Labels"):
                folders = [*parts[:i], name, *parts[i + 1 :]]
                places.append(Path(*folders).with_suffix(".txt"))
    adjacent = image.with_suffix(".txt")
    return [*places, image.parent / "labels" / adjacent.name, adjacent]


class LabelFiles:
    """Finds the label files of images; lists each folder at most once."""

    def __init__(self) -> None:
        self._listed: dict[Path, dict[str, Path]] = {}

    def of(self, image: Path) -> Path | None:
        """The label file of an image, or None without one.

        Without a file of exactly the image's name, the name may differ in capitals, like A.TXT, or
        in its Unicode form.
        """
        places = label_places(image)
        for place in places:
            if file_exists(place):
                return place
        found = (self._files_in(place.parent).get(alike(place.name)) for place in places)
        return next(filter(None, found), None)

    def _files_in(self, folder: Path) -> dict[str, Path]:
        if folder not in self._listed:
            names = sorted(os.listdir(folder)) if folder.is_dir() else []
            self._listed[folder] = {alike(name): folder / name for name in names}
        return self._listed[folder]


def is_label(file: Path) -> bool | None:
    """Whether the first line of a file is a YOLO label; None for a file without lines."""
    try:
        lines = read_text(file, MAX_BYTES).split("\n")
    except UserError:
        return False
    first = next((line.split() for line in lines if line.strip()), None)
    if first is None:
        return None
    return len(first) > 4 and all(number(word) is not None for word in first)


def without_image(images_in: Path, labels_in: Path) -> list[Path]:
    """The label files of a folder without an image in another folder."""
    names = os.listdir(images_in)
    known = {alike(Path(name).stem) for name in names if not name.lower().endswith(".txt")}
    return [
        file
        for file in labels_in.iterdir()
        if file.suffix.lower() == ".txt"
        and not file.name.startswith(".")
        and alike(file.stem) not in known
        and file.name.lower() not in NAME_FILES
    ]
