"""FIFOs, sockets, devices and folders instead of files: each is rejected without waiting."""

import contextlib
import functools
import os
import socket
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

from ssd_jax.data.sources import open_dataset
from ssd_jax.errors import UserError
from ssd_jax.images.opening import open_image, size_in_file
from ssd_jax.interop.weight_files import read_weights
from ssd_jax.storage.files import read_json, read_text
from tools.attacks.attack import Attack
from tools.attacks.measuring import check_refused

KIND = "special files"


def fifo(path: Path) -> None:
    os.mkfifo(path)


def bound_socket(path: Path) -> None:
    with contextlib.chdir(path.parent), socket.socket(socket.AF_UNIX) as listening:
        listening.bind(path.name)


def folder(path: Path) -> None:
    path.mkdir()


def link_to(target: str, path: Path) -> None:
    path.symlink_to(target)


def link_to_fifo(path: Path) -> None:
    os.mkfifo(path.parent / "pipe")
    path.symlink_to("pipe")


def link_to_itself(path: Path) -> None:
    path.symlink_to(path.name)


Make = Callable[[Path], None]
SPECIAL: dict[str, Make] = {
    "a FIFO": fifo,
    "a socket": bound_socket,
    "a folder": folder,
    "a link to a FIFO": link_to_fifo,
    "a link to itself": link_to_itself,
    "a link to /dev/zero": functools.partial(link_to, "/dev/zero"),
    "a link to /dev/random": functools.partial(link_to, "/dev/random"),
    "a link to /dev/tty": functools.partial(link_to, "/dev/tty"),
    "a link to nothing": functools.partial(link_to, "nowhere"),
}

XML = (
    "<annotation><size><width>8</width><height>8</height></size><object><name>a</name><bndbox>"
    "<xmin>1</xmin><ymin>1</ymin><xmax>5</xmax><ymax>5</ymax></bndbox></object></annotation>"
)


def refused(read: Callable[[], object]) -> None:
    """Checks that a call ends with one line of error."""
    try:
        read()
    except UserError as error:
        assert "\n" not in str(error), error
    else:
        raise AssertionError("it was read")


def voc(folder: Path, make: Make, name: str) -> object:
    """Reads a small set in VOC's form, one file of which is special."""
    root = folder / "set"
    for part in ("Annotations", "JPEGImages", "ImageSets/Main"):
        (root / part).mkdir(parents=True)
    (root / "ImageSets/Main/train.txt").write_text("1\n2\n")
    for stem in ("1", "2"):
        (root / f"Annotations/{stem}.xml").write_text(XML)
        Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(root / f"JPEGImages/{stem}.jpg")
    place = root / name
    place.unlink()
    make(place)
    return open_dataset(f"voc_xml:{root}:train", ("a",))


def read_place(read: Callable[[Path], object], suffix: str, make: Make, folder: Path) -> None:
    place = folder / f"file{suffix}"
    make(place)
    refused(lambda: read(place))


def read_set(name: str, make: Make, folder: Path) -> None:
    refused(lambda: voc(folder, make, name))


READERS: dict[str, tuple[Callable[[Path], object], str]] = {
    "an image": (open_image, ".jpg"),
    "the size of an image": (size_in_file, ".png"),
    "JSON": (read_json, ".json"),
    "a text": (read_text, ".txt"),
    "weights of PyTorch": (lambda path: read_weights(str(path)), ".pth"),
    "weights of NumPy": (lambda path: read_weights(str(path)), ".npz"),
    "weights of safetensors": (lambda path: read_weights(str(path)), ".safetensors"),
    "weights of Caffe": (lambda path: read_weights(str(path)), ".caffemodel"),
    "records": (
        lambda path: open_dataset(f"tfrecord:{path}", ("a",)),
        ".tfrecord",
    ),
    "COCO's annotations": (
        lambda path: open_dataset(f"coco_json:{path.parent}:{path}", ("a",)),
        ".json",
    ),
}
PARTS = {
    "the image of a set": "JPEGImages/1.jpg",
    "the annotation of a set": "Annotations/2.xml",
    "the list of a set": "ImageSets/Main/train.txt",
}

BEFORE = """
from pathlib import Path
from ssd_jax import Detector
from ssd_jax.inference.jax_engine import JaxEngine
from ssd_jax.inference.video import detect_in_video
from tests.helpers.random_detector import random_trained
detector = Detector(JaxEngine(random_trained()))
"""


def video(make: Make, folder: Path) -> None:
    place = folder / "in.mp4"
    make(place)
    output = folder / "out.mp4"
    work = f"list(detect_in_video(detector, {str(place)!r}, Path({str(output)!r}), 2, lambda x: x))"
    check_refused(BEFORE, work)
    assert not output.exists()


ATTACKS: list[Attack] = [
    *(
        Attack(
            KIND, f"{special} as {what}", functools.partial(read_place, read, suffix, make), True
        )
        for special, make in SPECIAL.items()
        for what, (read, suffix) in READERS.items()
    ),
    *(
        Attack(KIND, f"{special} as {what}", functools.partial(read_set, name, make), True)
        for special, make in SPECIAL.items()
        for what, name in PARTS.items()
    ),
    *(
        Attack(KIND, f"{special} as a video", functools.partial(video, make))
        for special, make in SPECIAL.items()
    ),
]
