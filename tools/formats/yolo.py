"""Writes a YOLO data set in Ultralytics' layout."""

import json
from collections.abc import Sequence
from pathlib import Path

from tools.formats.picture import Picture


def write(pictures: Sequence[Picture], folder: Path) -> None:
    """Writes data.yaml, images/train and labels/train; images without objects have no labels."""
    names = sorted({each.name for picture in pictures for each in picture.objects})
    images, labels = folder / "images/train", folder / "labels/train"
    images.mkdir(parents=True)
    labels.mkdir(parents=True)
    for picture in pictures:
        (images / picture.name).write_bytes(picture.encoded)
        if picture.objects:
            lines = [
                _line(each.box, names.index(each.name), picture.size) for each in picture.objects
            ]
            (labels / picture.name).with_suffix(".txt").write_text("\n".join(lines))
    listed = "".join(
        f"  {i}: {json.dumps(name, ensure_ascii=False)}\n" for i, name in enumerate(names)
    )
    (folder / "data.yaml").write_text(
        f"path: ../datasets/{folder.name}\ntrain: images/train\nval: images/val\ntest:\n\nnames:\n"
        f"{listed}",
        encoding="utf-8",
    )


def _line(box: Sequence[float], index: int, size: tuple[int, int]) -> str:
    height, width = size
    x_min, y_min, x_max, y_max = box
    centre = (x_min + x_max) / 2 / width, (y_min + y_max) / 2 / height
    sides = (x_max - x_min) / width, (y_max - y_min) / height
    return " ".join([str(index), *(f"{value:.6f}" for value in (*centre, *sides))])
