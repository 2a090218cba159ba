"""Writes a project in Label Studio's JSON export format."""

import json
import zlib
from collections.abc import Sequence
from pathlib import Path

from ssd_jax.data.records import Object
from tools.formats.picture import Picture


def write(pictures: Sequence[Picture], folder: Path) -> None:
    """Writes the images with their names, and the export with names of uploaded files."""
    folder.mkdir(parents=True, exist_ok=True)
    tasks = [_task(number, picture) for number, picture in enumerate(pictures, 1)]
    for picture in pictures:
        (folder / picture.name).write_bytes(picture.encoded)
    name = "project-1-at-2026-01-31-12-00-0badcafe.json"
    (folder / name).write_text(json.dumps(tasks), encoding="utf-8")


def _task(number: int, picture: Picture) -> dict[str, object]:
    uploaded = f"{zlib.crc32(picture.name.encode()):08x}-{picture.name.replace(' ', '_')}"
    made = {
        "id": number,
        "completed_by": 1,
        "result": [_region(i, each, picture.size) for i, each in enumerate(picture.objects)],
        "was_cancelled": False,
        "ground_truth": False,
        "created_at": "2026-01-31T12:00:00.000000Z",
        "updated_at": "2026-01-31T12:00:00.000000Z",
        "task": number,
    }
    return {
        "id": number,
        "annotations": [made],
        "file_upload": uploaded,
        "predictions": [],
        "data": {"image": f"/data/upload/1/{uploaded}"},
        "project": 1,
    }


def _region(number: int, each: Object, size: tuple[int, int]) -> dict[str, object]:
    height, width = size
    x_min, y_min, x_max, y_max = each.box
    return {
        "original_width": width,
        "original_height": height,
        "image_rotation": 0,
        "value": {
            "x": 100 * x_min / width,
            "y": 100 * y_min / height,
            "width": 100 * (x_max - x_min) / width,
            "height": 100 * (y_max - y_min) / height,
            "rotation": 0,
            "rectanglelabels": [each.name],
        },
        "id": f"region{number}",
        "from_name": "label",
        "to_name": "image",
        "type": "rectanglelabels",
        "origin": "manual",
    }
