"""Writes annotations like LabelMe: a JSON file next to each image."""

import json
from collections.abc import Sequence
from pathlib import Path

from ssd_jax.data.records import Object
from tools.formats.picture import Picture


def write(pictures: Sequence[Picture], folder: Path) -> None:
    """Writes the images and their files; each third rectangle from its lower right corner."""
    folder.mkdir(parents=True, exist_ok=True)
    for picture in pictures:
        height, width = picture.size
        content = {
            "version": "5.5.0",
            "flags": {},
            "shapes": [_shape(number, each) for number, each in enumerate(picture.objects)],
            "imagePath": picture.name,
            "imageData": None,
            "imageHeight": height,
            "imageWidth": width,
        }
        (folder / picture.name).write_bytes(picture.encoded)
        text = json.dumps(content, ensure_ascii=False, indent=2)
        (folder / picture.name).with_suffix(".json").write_text(text, encoding="utf-8")


def _shape(number: int, each: Object) -> dict[str, object]:
    x_min, y_min, x_max, y_max = each.box
    points = [[x_min, y_min], [x_max, y_max]]
    return {
        "label": each.name,
        "points": points[::-1] if number % 3 == 2 else points,
        "group_id": None,
        "description": "",
        "shape_type": "rectangle",
        "flags": {"difficult": True} if each.difficult else {},
        "mask": None,
    }
