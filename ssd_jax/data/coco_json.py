"""Reads annotations in COCO's JSON format."""

import json
from pathlib import Path

import numpy as np

from ssd_jax.data.annotations import Annotation
from ssd_jax.errors import UserError


def read_coco_json(annotations: str, image_dir: str) -> tuple[list[Annotation], dict[str, int]]:
    """Reads one annotation file.

    Args:
      annotations: a file like `instances_val2017.json`.
      image_dir: the folder of its pictures.

    Returns:
      The annotations in the file's order, and the ids of its categories by name, in the order of
      the ids (which need not be consecutive: COCO's 80 classes have ids from 1 to 90).

    Raises:
      UserError: a file is missing or cannot be understood; the message names it.
    """
    path, folder = Path(annotations), Path(image_dir)
    if not path.is_file():
        raise UserError(f"coco_json:{annotations}:{image_dir}: {path} does not exist")
    if not folder.is_dir():
        raise UserError(f"coco_json:{annotations}:{image_dir}: the folder {folder} does not exist")
    try:
        content = json.loads(path.read_text())
    except json.JSONDecodeError as error:
        raise UserError(f"{path} is not JSON: {error}") from error
    try:
        return _read(content, path, folder)
    except (KeyError, TypeError, ValueError) as error:
        if isinstance(error, UserError):
            raise
        raise UserError(
            f"{path} is not in COCO's format ({type(error).__name__}: {error}): it needs 'images' "
            "with id, file_name, width and height, 'annotations' with image_id, category_id and "
            "bbox, and 'categories' with id and name"
        ) from error


def _read(content: dict, path: Path, folder: Path) -> tuple[list[Annotation], dict[str, int]]:
    categories = {
        category["id"]: category["name"]
        for category in sorted(content["categories"], key=lambda category: category["id"])
    }
    objects = {image["id"]: [] for image in content["images"]}
    for entry in content["annotations"]:
        if entry["image_id"] not in objects:
            raise UserError(f"{path}: an annotation names the unknown image {entry['image_id']}")
        if entry["category_id"] not in categories:
            raise UserError(
                f"{path}: an annotation names the unknown category {entry['category_id']}"
            )
        objects[entry["image_id"]].append(entry)
    if not objects:
        raise UserError(f"{path} lists no images")

    annotations = []
    for image in content["images"]:
        file = folder / image["file_name"]
        if not file.is_file():
            raise UserError(f"{path} lists {image['file_name']}, but {file} does not exist")
        entries = objects[image["id"]]
        corners = np.array([entry["bbox"] for entry in entries], np.float64).reshape(-1, 4)
        corners[:, 2:] += corners[:, :2]
        size = (image["width"], image["height"])
        annotations.append(
            Annotation(
                image_id=str(image["id"]),
                path=file,
                boxes=(corners / (size + size)).astype(np.float32),
                names=tuple(categories[entry["category_id"]] for entry in entries),
                difficult=np.zeros(len(entries), bool),
                crowd=np.array([bool(entry.get("iscrowd", 0)) for entry in entries], bool),
                area=np.array([entry.get("area", np.nan) for entry in entries], np.float64),
            )
        )
    return annotations, {name: category_id for category_id, name in categories.items()}
