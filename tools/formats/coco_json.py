"""Writes COCO's JSON like Roboflow: in the folder of the images, with a supercategory."""

import json
import math
from collections.abc import Sequence
from pathlib import Path

from tools.formats.picture import Picture


def write(pictures: Sequence[Picture], folder: Path) -> None:
    """Writes `train/_annotations.coco.json` and the images in the same folder."""
    names = sorted({each.name for picture in pictures for each in picture.objects})
    categories = [{"id": 0, "name": "objects", "supercategory": "none"}]
    categories += [
        {"id": i, "name": name, "supercategory": "objects"} for i, name in enumerate(names, 1)
    ]
    images, annotations = [], []
    for image_id, picture in enumerate(pictures):
        path = folder / "train" / picture.name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(picture.encoded)
        height, width = picture.size
        images.append(
            {"id": image_id, "license": 1, "file_name": picture.name}
            | {"height": height, "width": width, "date_captured": "2026-01-31T12:00:00+00:00"}
        )
        for each in picture.objects:
            x_min, y_min, x_max, y_max = each.box
            area = (x_max - x_min) * (y_max - y_min) if math.isnan(each.area) else each.area
            annotations.append(
                {
                    "id": len(annotations),
                    "image_id": image_id,
                    "category_id": 1 + names.index(each.name),
                    "bbox": [x_min, y_min, x_max - x_min, y_max - y_min],
                    "area": area,
                    "segmentation": [],
                    "iscrowd": int(each.crowd),
                }
                | ({"ignore": 1} if each.difficult else {})
            )
    content = {"info": {"version": "1"}, "licenses": [{"id": 1, "url": "", "name": "CC BY 4.0"}]}
    content |= {"categories": categories, "images": images, "annotations": annotations}
    file = folder / "train" / "_annotations.coco.json"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(content), encoding="utf-8")
