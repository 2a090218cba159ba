"""Writes a CSV file with a row for each object, like Roboflow's export for TensorFlow."""

import csv
from collections.abc import Sequence
from pathlib import Path

from tools.formats.picture import Picture

COLUMNS = ("filename", "width", "height", "class", "xmin", "ymin", "xmax", "ymax")


def write(pictures: Sequence[Picture], folder: Path) -> None:
    """Writes images and `_annotations.csv`, which also has a row for each image without objects."""
    split = folder / "train"
    split.mkdir(parents=True)
    with (split / "_annotations.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(COLUMNS)
        for picture in pictures:
            (split / picture.name).write_bytes(picture.encoded)
            height, width = picture.size
            for each in picture.objects:
                writer.writerow([picture.name, width, height, each.name, *each.box])
            if not picture.objects:
                writer.writerow([picture.name, width, height, "", "", "", "", ""])
