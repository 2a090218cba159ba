"""Writes the same images in every format, reads each by its folder alone, and trains on it.

    python -m tools.every_format --shared=../shared

`--shared` is a folder with `data/BCCD` (Pascal VOC) and `data/coco_tiny` (COCO). Prints a line for
each format. The exit status is 1 if a format is not read as it was written, within half a pixel.
`--only=NAME,NAME` selects formats; `--no-train` skips the two training steps.
"""

import argparse
import importlib
import json
import logging
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from scipy.optimize import linear_sum_assignment

from ssd_jax.cli import console
from ssd_jax.config.files import load_config
from ssd_jax.data.datasets import Dataset
from ssd_jax.data.records import Object
from ssd_jax.data.sources import open_dataset, resolve
from ssd_jax.distributed import devices
from ssd_jax.runs.train import train
from tools.formats.picture import Picture
from tools.formats.writers import writers

TOLERANCE = 0.5  # pixels
# The smallest SSD that trains, for images of 64 × 64 pixels.
TINY = {
    "batch_size": 4,
    "steps": 2,
    "log_every": 1,
    "checkpoint_every": 2,
    "eval_every": -1,
    "warmup_steps": 1,
    "model.image_size": 64,
    "model.width": 0.02,
    "model.extra_blocks": ((256, 512, 3, 2, 1), (128, 256, 3, 2, 1)),
    "model.feature_sizes": (8, 4, 2, 1),
    "model.strides": (8, 16, 32, 64),
    "model.min_sizes": (8, 16, 28, 40),
    "model.max_sizes": (16, 28, 40, 52),
    "model.aspect_ratios": ((2,), (2,), (2,), (2,)),
}


class Result(NamedTuple):
    """The result of reading a format back.

    Attributes:
      name: of the writer.
      found: the recognised format of the folder.
      images: the number of images.
      objects: the number of objects.
      classes: the number of classes.
      difference: the largest difference of a corner, in pixels; infinite if images, objects or
        classes differ.
      loss: of the last step of training; NaN without.
      seconds: for all of this.
    """

    name: str
    found: str
    images: int
    objects: int
    classes: int
    difference: float
    loss: float
    seconds: float

    @property
    def is_right(self) -> bool:
        """Whether the read objects equal the written ones."""
        return self.difference <= TOLERANCE


def take_pictures(shared: Path, count: int) -> list[Picture]:
    """The first images of BCCD and of COCO tiny, the same number of each, with their objects.

    Crowds are left out, because not every format can mark them.
    """
    coco = shared / "data/coco_tiny"
    sources = (
        f"voc_xml:{shared / 'data/BCCD'}:test",
        f"coco_json:{coco / 'annotations/instances_val2017.json'}:{coco / 'val2017'}",
    )
    pictures = []
    for source in sources:
        dataset = open_dataset(source)
        pictures += [_picture(dataset, index) for index in range(min(count // 2, len(dataset)))]
    return pictures


def _picture(dataset: Dataset, index: int) -> Picture:
    record = dataset[index]
    height, width = map(int, record.size or (0, 0))
    boxes = (record.boxes * (width, height, width, height)).round(2).tolist()
    objects = tuple(
        Object(dataset.class_names[label - 1], box)
        for label, box, crowd in zip(record.labels.tolist(), boxes, record.crowd, strict=True)
        if not crowd
    )
    path = Path(record.path)
    return Picture(path.name, path.read_bytes(), (height, width), objects)


def try_format(name: str, pictures: Sequence[Picture], folder: Path, trains: bool) -> Result:
    """Writes images in a format, reads the folder and trains on it."""
    started = time.perf_counter()
    module = importlib.import_module(f"tools.formats.{name}")
    if getattr(module, "NEEDS_OBJECTS", False):
        pictures = [picture for picture in pictures if picture.objects]
    module.write(pictures, folder / "data set")
    source = str(folder / "data set")
    (named,) = resolve(source, "train")
    dataset = open_dataset(source, role="train")
    loss = _train(source, folder / "run") if trains else float("nan")
    return Result(
        name,
        named.found.format if named.found else "",
        len(dataset),
        sum(len(record.labels) for record in dataset),
        len(dataset.class_names),
        largest_difference(pictures, dataset),
        loss,
        time.perf_counter() - started,
    )


def largest_difference(pictures: Sequence[Picture], dataset: Dataset) -> float:
    """The largest difference of a corner, in pixels; infinite if anything else differs."""
    named = {_content(dataset, index): index for index in range(len(dataset))}
    classes = {each.name for picture in pictures for each in picture.objects}
    if len(named) != len(pictures) or set(dataset.class_names) != classes:
        return float("inf")
    largest = 0.0
    for picture in pictures:
        if picture.encoded not in named:
            return float("inf")
        record = dataset[named[picture.encoded]]
        names = [dataset.class_names[label - 1] for label in record.labels]
        height, width = picture.size
        boxes = record.boxes * (width, height, width, height)
        if sorted(names) != sorted(each.name for each in picture.objects):
            return float("inf")
        for name in set(names):
            own = boxes[[i for i, other in enumerate(names) if other == name]]
            written = np.array([each.box for each in picture.objects if each.name == name])
            differences = np.abs(own[:, None] - written[None]).max(axis=2)
            matched = differences[linear_sum_assignment(differences)]
            largest = max(largest, float(matched.max()))
    return largest


def _content(dataset: Dataset, index: int) -> bytes:
    record = dataset[index]
    return record.encoded or Path(record.path).read_bytes()


def _train(source: str, workdir: Path) -> float:
    """Trains two steps with `config.data.train` alone; returns the loss."""
    train(load_config("quickstart", [f"data.train={source}"]).replace(TINY), workdir)
    lines = (workdir / "metrics.jsonl").read_text().splitlines()
    return [json.loads(line) for line in lines][-1]["train/loss"]


def main() -> None:
    """Prints a line for each format."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--shared", type=Path, default=Path("../shared"))
    parser.add_argument("--images", type=int, default=40, help="how many, half of each set")
    parser.add_argument("--only", default="", help="names of formats; by default all")
    parser.add_argument("--train", action=argparse.BooleanOptionalAction, default=True)
    options = parser.parse_args()
    devices.initialize()
    with console.session():  # programs that the first format compiles are used by the others
        logging.getLogger("ssd_jax").setLevel(logging.ERROR)  # the table is enough
        pictures = take_pictures(options.shared, options.images)
        columns = f"{'format':<16}{'found':<14}{'images':>7}{'objects':>9}{'classes':>9}"
        print(f"{columns}{'pixels':>10}{'loss':>8}{'seconds':>9}")
        results = []
        for name in filter(None, options.only.split(",")) if options.only else writers():
            with tempfile.TemporaryDirectory() as folder:
                result = try_format(name, pictures, Path(folder), options.train)
            results.append(result)
            row = f"{name:<16}{result.found:<14}{result.images:>7}{result.objects:>9}"
            numbers = f"{result.difference:>10.4f}{result.loss:>8.2f}{result.seconds:>9.1f}"
            print(f"{row}{result.classes:>9}{numbers}", flush=True)
    sys.exit(0 if all(result.is_right for result in results) else 1)


if __name__ == "__main__":
    main()
