"""Writes shards of any number of images, with an index, to measure how they are opened.

python -m tools.large_shards --images=2000000 --output=large_shards

The images are tiny, 7 or 8 objects each, and every shard is a copy of the first.
"""

import argparse
import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from ssd_jax.data.column_files import join_tables, load_table
from ssd_jax.data.convert import convert_data
from ssd_jax.data.shard_index import INDEX, index_details
from ssd_jax.data.writers.tfds_files import Shard, shard_name, write_tfds_files
from ssd_jax.storage.files import write_json

IMAGES_A_SHARD = 20_000
SIDE = 16  # pixels
SPLIT = "train"


def main(arguments: Sequence[str] | None = None) -> None:
    """Writes the first shard as convert-data does, and copies it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, required=True, help=f"whole {IMAGES_A_SHARD:,}s")
    parser.add_argument("--output", type=Path, required=True, help="a new folder")
    given = parser.parse_args(arguments)
    first = given.output / "first"
    convert_data(write_source(given.output / "source"), "shards", first)
    table = load_table(first / INDEX / SPLIT)
    assert table is not None
    (own,) = first.glob("*.tfrecord-*")
    count = max(1, given.images // IMAGES_A_SHARD)
    shards = [
        Shard(shard_name("large", SPLIT, i, count), IMAGES_A_SHARD, own.stat().st_size)
        for i in range(count)
    ]
    for shard in shards:
        shutil.copyfile(own, given.output / shard.name)
    names = table.details["names"]
    write_tfds_files(given.output, "large", names, {SPLIT: shards})
    (given.output / INDEX / SPLIT).mkdir(parents=True)
    details = index_details(names, table.details["ids"], shards)
    join_tables([table.columns] * count, details, given.output / INDEX / SPLIT)
    shutil.rmtree(first)
    shutil.rmtree(given.output / "source")


def write_source(folder: Path) -> str:
    """Writes a COCO file of one shard's images, all of them the same; returns its spec."""
    draw = np.random.default_rng(0)
    (folder / "images").mkdir(parents=True)
    Image.fromarray(draw.integers(0, 256, (SIDE, SIDE, 3), np.uint8)).save(folder / "first.jpg")
    images, objects = [], []
    for i in range(IMAGES_A_SHARD):
        name = f"{i:06d}.jpg"
        (folder / "images" / name).hardlink_to(folder / "first.jpg")
        images.append({"id": i, "file_name": name, "width": SIDE, "height": SIDE})
        for x, y in draw.integers(1, SIDE // 2, (7 + i % 2, 2)).tolist():
            box = [x, y, SIDE // 2, SIDE // 2 - 1]
            objects.append({"image_id": i, "category_id": 1 + x % 3, "bbox": box})
    categories = [{"id": i + 1, "name": name} for i, name in enumerate(("cat", "dog", "hen"))]
    content = {"images": images, "annotations": objects, "categories": categories}
    write_json(folder / "train.json", content)
    return f"coco_json:{folder / 'train.json'}:{folder / 'images'}"


if __name__ == "__main__":
    main()
