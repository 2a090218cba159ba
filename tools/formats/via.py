"""Writes annotations in the JSON export format of the VGG Image Annotator."""

import json
from collections.abc import Sequence
from pathlib import Path

from tools.formats.picture import Picture


def write(pictures: Sequence[Picture], folder: Path) -> None:
    """Writes the images, and via_export_json.json in the same folder."""
    folder.mkdir(parents=True, exist_ok=True)
    content = {}
    for picture in pictures:
        (folder / picture.name).write_bytes(picture.encoded)
        num_bytes = len(picture.encoded)
        regions = []
        for each in picture.objects:
            x_min, y_min, x_max, y_max = each.box
            shape = {"name": "rect", "x": x_min, "y": y_min}
            shape |= {"width": x_max - x_min, "height": y_max - y_min}
            attributes = {"class": each.name, "note": ""}
            regions.append({"shape_attributes": shape, "region_attributes": attributes})
        content[f"{picture.name}{num_bytes}"] = {
            "filename": picture.name,
            "size": num_bytes,
            "regions": regions,
            "file_attributes": {},
        }
    (folder / "via_export_json.json").write_text(json.dumps(content), encoding="utf-8")
