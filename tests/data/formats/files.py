"""Files of a data set by path, for the tests of formats; every image is 200 × 100."""

import json
from collections.abc import Mapping
from pathlib import Path

from ssd_jax.data.records import Object
from ssd_jax.data.sources import open_dataset
from tests.helpers.pictures import write_picture
from tools.formats.picture import Picture

BOX = (20, 10, 80, 60)  # in pixels


def write_files(folder: Path, files: Mapping[str, object]) -> str:
    """Writes texts, bytes, or JSON of anything else; images where the content is None."""
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if content is None:
            write_picture(path, 200, 100)
        elif isinstance(content, bytes):
            path.write_bytes(content)
        else:
            is_text = isinstance(content, str)
            path.write_text(content if is_text else json.dumps(content), encoding="utf-8")
    return str(folder)


def objects(source, **arguments):
    """The objects of every image by its id: names with boxes in pixels."""
    dataset = open_dataset(source, **arguments)
    read = {}
    for index in range(len(dataset)):
        record = dataset[index]
        names = [dataset.class_names[label - 1] for label in record.labels]
        boxes = (record.boxes * (200, 100, 200, 100)).round(3).tolist()
        read[record.image_id] = [(n, tuple(b)) for n, b in zip(names, boxes, strict=True)]
    return read


def check_round_trip(write, folder, name="a b.jpg"):
    """Writes two images, one with three objects, in a format; read back they are the same."""
    write_picture(folder / "a.jpg", 200, 100)
    encoded = (folder / "a.jpg").read_bytes()
    boxes = [BOX, (0, 0, 200, 100), (1.25, 2, 30, 40.5)]
    each = tuple(Object("猫 cat", box) for box in boxes)
    pictures = [Picture(name, encoded, (100, 200), each)]
    pictures.append(Picture("b.jpg", encoded, (100, 200), ()))
    write(pictures, folder / "set")
    stem = name.removesuffix(".jpg")
    assert objects(str(folder / "set")) == {
        stem: [("猫 cat", tuple(box)) for box in boxes],
        "b": [],
    }
