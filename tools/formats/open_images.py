"""Writes the boxes of images in the format of Open Images."""

import csv
from collections.abc import Sequence
from pathlib import Path

from tools.formats.picture import Picture

COLUMNS = (
    *("ImageID", "Source", "LabelName", "Confidence", "XMin", "XMax", "YMin", "YMax"),
    *("IsOccluded", "IsTruncated", "IsGroupOf", "IsDepiction", "IsInside"),
)

# The format cannot represent images without objects.
NEEDS_OBJECTS = True


def write(pictures: Sequence[Picture], folder: Path) -> None:
    """Writes boxes, class descriptions, and images; images without objects are left out."""
    images = folder / "train"
    images.mkdir(parents=True)
    names = sorted({each.name for picture in pictures for each in picture.objects})
    labels = {name: f"/m/0{number:03}" for number, name in enumerate(names)}
    with (folder / "class-descriptions-boxable.csv").open("w", newline="") as file:
        csv.writer(file).writerows((label, name) for name, label in labels.items())
    with (folder / "train-annotations-bbox.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(COLUMNS)
        for picture in pictures:
            if not picture.objects:
                continue
            (images / picture.name).write_bytes(picture.encoded)
            height, width = picture.size
            for each in picture.objects:
                x_min, y_min, x_max, y_max = each.box
                box = (x_min / width, x_max / width, y_min / height, y_max / height)
                label, corners = labels[each.name], [f"{corner:.6f}" for corner in box]
                flags = [0, 0, int(each.crowd), 0, 0]
                writer.writerow([Path(picture.name).stem, "xclick", label, 1, *corners, *flags])
