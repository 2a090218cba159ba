"""Writes COCO's layout: `annotations/instances_SPLIT.json`, and images in a folder of the split."""

import collections
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ssd_jax.data.writers.written import Written
from ssd_jax.storage.files import write_json


class CocoWriter:
    """Writes COCO's layout; see `Writer`. Difficult objects have `ignore`, crowds `iscrowd`."""

    keeps_difficult = True
    keeps_crowd = True

    def __init__(self, root: Path, class_names: Sequence[str], category_ids: Sequence[int]):
        """Begins a data set in a folder, with these classes and their ids."""
        self._root = root
        self._categories = [
            {"id": number, "name": name, "supercategory": ""}
            for number, name in zip(category_ids, class_names, strict=True)
        ]
        self._images: dict[str, list[dict[str, Any]]] = collections.defaultdict(list)
        self._annotations: dict[str, list[dict[str, Any]]] = collections.defaultdict(list)

    def image_folder(self, split: str) -> str:
        return split

    def add(self, split: str, image: Written) -> None:
        images, annotations = self._images[split], self._annotations[split]
        height, width = image.size
        image_id = len(images) + 1
        images.append({"id": image_id, "file_name": image.name, "height": height, "width": width})
        corners = image.boxes.round(4)
        sides = (corners[:, 2:] - corners[:, :2]).round(4)
        areas = np.where(np.isnan(image.area), sides.prod(axis=1), image.area).round(4)
        for i, label in enumerate(image.labels.tolist()):
            entry = {
                "id": len(annotations) + 1,
                "image_id": image_id,
                "category_id": self._categories[label - 1]["id"],
                "bbox": [*corners[i, :2].tolist(), *sides[i].tolist()],
                "area": float(areas[i]),
                "iscrowd": int(image.crowd[i]),
                "segmentation": [],
            }
            annotations.append(entry | ({"ignore": 1} if image.difficult[i] else {}))

    def finish(self) -> None:
        (self._root / "annotations").mkdir()
        for split, images in self._images.items():
            content = {
                "images": images,
                "annotations": self._annotations[split],
                "categories": self._categories,
            }
            write_json(self._root / "annotations" / f"instances_{split}.json", content, indent=None)
