"""Small data sets on disk, made by the tests that read them."""

import json
from pathlib import Path

import numpy as np
from PIL import Image

OBJECT = """
  <object>
    <name>{name}</name>{extra}
    <bndbox><xmin>{box[0]}</xmin><ymin>{box[1]}</ymin><xmax>{box[2]}</xmax><ymax>{box[3]}</ymax></bndbox>
  </object>"""


def write_picture(path: Path, width: int = 60, height: int = 40, seed: int = 0) -> None:
    """A picture of smooth colours, which survive JPEG."""
    path.parent.mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng(seed).integers(0, 256, (3, 4, 3), dtype=np.uint8)
    Image.fromarray(noise).resize((width, height), Image.Resampling.BICUBIC).save(path)


class VocFolder:
    """A folder in Pascal VOC's layout."""

    def __init__(self, root: Path):
        self.root = root
        for name in ("Annotations", "JPEGImages", "ImageSets/Main"):
            (root / name).mkdir(parents=True)

    def add(self, image_id, objects, *, suffix=".jpg", size=(60, 40), extra="", size_tag=True):
        """Adds a picture with objects (name, xmin, ymin, xmax, ymax)."""
        write_picture(self.root / "JPEGImages" / f"{image_id}{suffix}", *size, seed=len(image_id))
        text = "".join(OBJECT.format(name=name, box=box, extra=extra) for name, *box in objects)
        if size_tag:
            text = f"<size><width>{size[0]}</width><height>{size[1]}</height></size>" + text
        self.annotation(image_id).write_text(f"<annotation>{text}</annotation>")

    def annotation(self, image_id) -> Path:
        return self.root / "Annotations" / f"{image_id}.xml"

    def split(self, name, *image_ids) -> str:
        """Writes a split file; returns the source's spec."""
        lines = "".join(f"{image_id}\n" for image_id in image_ids)
        (self.root / "ImageSets" / "Main" / f"{name}.txt").write_text(lines)
        return f"voc_xml:{self.root}:{name}"


def write_ten(root: Path) -> str:
    """Ten images in Pascal VOC's layout: one without objects, one with five; the source's spec."""
    voc = VocFolder(root)
    voc.add("empty", [])
    voc.add("crowded", [("dog", 1 + i, 1, 11 + 2 * i, 12) for i in range(5)])
    names = [f"picture{i}" for i in range(8)]
    for i, name in enumerate(names):
        voc.add(name, [("dog", 6, 4, 30, 20), ("cat", 12, 8, 54, 36)], size=(60, 40 + i))
    return voc.split("all", "empty", "crowded", *names)


def write_coco(folder: Path, content: dict) -> str:
    """Writes annotations and their pictures; returns the source's spec."""
    for image in content["images"]:
        write_picture(folder / "images" / image["file_name"], image["width"], image["height"])
    (folder / "instances.json").write_text(json.dumps(content))
    return f"coco_json:{folder / 'instances.json'}:{folder / 'images'}"


def files_of(folder: Path) -> dict[str, bytes]:
    """The content of all files below a folder, by their paths from it."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }
