"""Writes a COCO annotation file of any size with its images; equal arguments give equal files.

    python -m tools.large_coco --images=118000 --objects=850000 --points=20 --output=large
    python -m tools.large_coco --images=2000000 --objects=15000000 --output=larger

The images are hard links to a few files, so that they take little disk space.
"""

import argparse
import json
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TextIO

import numpy as np
from PIL import Image

SIZES = ((640, 480), (480, 640), (500, 375), (1024, 768))  # (width, height)
NUM_CATEGORIES = 80
AT_ONCE = 100_000  # entries that are drawn together
MOST_LINKS = 50_000  # to one file; file systems have a limit
IMAGES_A_FOLDER = 100_000


def main(arguments: Sequence[str] | None = None) -> None:
    """Writes `annotations.json` and the folder `images`."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, required=True)
    parser.add_argument("--objects", type=int, required=True)
    parser.add_argument("--points", type=int, default=0, help="of each object's polygon; 0 = none")
    parser.add_argument("--output", type=Path, required=True, help="a new folder")
    given = parser.parse_args(arguments)
    given.output.mkdir(parents=True)
    with (given.output / "annotations.json").open("w") as file:
        write_annotations(file, given.images, given.objects, given.points)
    write_images(given.output / "images", given.images)


def write_annotations(file: TextIO, images: int, objects: int, points: int) -> None:
    """Writes the file in the order of COCO's files: all images, then all objects."""
    categories = [{"id": i + 1, "name": _class_name(i)} for i in range(NUM_CATEGORIES)]
    file.write('{"info": {"description": "generated"}, "images": [')
    _write_items(file, (_image(index) for index in range(images)))
    file.write('], "annotations": [')
    _write_items(file, _objects(images, objects, points))
    file.write(f'], "categories": {json.dumps(categories)}}}\n')


def _write_items(file: TextIO, items: Iterator[dict]) -> None:
    for index, item in enumerate(items):
        file.write((", " if index else "") + json.dumps(item))


def image_name(index: int) -> str:
    """The path of an image."""
    return f"{index // IMAGES_A_FOLDER:03d}/{index:012d}.jpg"


def _image(index: int) -> dict:
    width, height = SIZES[index % len(SIZES)]
    return {"license": 1, "file_name": image_name(index), "height": height, "width": width,
            "id": 10 * index + 7}  # fmt: skip


def _class_name(index: int) -> str:
    """A name that cannot be mistaken for a misspelling of another one."""
    return f"{'bcdfghjklmnpqrst'[index // 5]}{'aeiou'[index % 5]}"


def _objects(images: int, objects: int, points: int) -> Iterator[dict]:
    draw = np.random.default_rng(0)
    for start in range(0, objects, AT_ONCE):
        count = min(AT_ONCE, objects - start)
        owners = draw.integers(images, size=count)
        sizes = np.array(SIZES)[owners % len(SIZES)]
        corners = np.sort(draw.random((count, 2, 2)), axis=1) * sizes[:, None]
        corners[:, 1] = np.minimum(np.maximum(corners[:, 1], corners[:, 0] + 1.01), sizes)
        corners[:, 0] = np.maximum(np.minimum(corners[:, 0], corners[:, 1] - 1.0), 0)
        boxes = np.concatenate([corners[:, 0], corners[:, 1] - corners[:, 0]], axis=1).round(2)
        areas = (boxes[:, 2] * boxes[:, 3] * draw.uniform(0.3, 1, count)).round(4)
        categories = draw.integers(1, NUM_CATEGORIES + 1, count)
        crowds = (draw.random(count) < 0.01).astype(int)
        outlines = draw.random((count, points, 2)) * boxes[:, None, 2:] + boxes[:, None, :2]
        columns = (owners, boxes, areas, categories, crowds, outlines.round(2).reshape(count, -1))
        rows = zip(*(column.tolist() for column in columns), strict=True)
        for index, (owner, box, area, category, crowd, outline) in enumerate(rows, start):
            yield {
                **({"segmentation": [outline]} if points else {}),
                "area": area,
                "iscrowd": crowd,
                "image_id": 10 * owner + 7,
                "bbox": box,
                "category_id": category,
                "id": index + 1,
            }


def write_images(folder: Path, images: int) -> None:
    """Creates the images as links to a few black images."""
    originals: dict[tuple[int, int], Path] = {}
    for index in range(images):
        size, number = SIZES[index % len(SIZES)], index // (MOST_LINKS * len(SIZES))
        path = folder / image_name(index)
        if index % IMAGES_A_FOLDER == 0:
            path.parent.mkdir(parents=True)
        if (size, number) in originals:
            os.link(originals[size, number], path)
        else:
            Image.new("RGB", size).save(path)
            originals[size, number] = path


if __name__ == "__main__":
    main()
