"""Reads a folder in Pascal VOC's layout: Annotations, JPEGImages, ImageSets/Main."""

from pathlib import Path
from xml.etree.ElementTree import Element, ParseError

import numpy as np
from defusedxml import DefusedXmlException, ElementTree

from ssd_jax.data.annotations import Annotation
from ssd_jax.errors import UserError
from ssd_jax.pictures import open_picture

IMAGE_SUFFIXES = {".jpg", ".jpeg", ".png"}


def read_voc_xml(root: str, split: str) -> list[Annotation]:
    """Reads the annotations of one split, in the order of its split file.

    Boxes are the XML's whole numbers divided by the picture's size, as in Caffe and TensorFlow
    Datasets, so that times the size they are the XML's numbers again.

    Args:
      root: the folder that holds `Annotations`, `JPEGImages` and `ImageSets/Main`.
      split: the name of a file in `ImageSets/Main`, without `.txt`.

    Raises:
      UserError: a file is missing or cannot be understood; the message names it.
    """
    spec = f"voc_xml:{root}:{split}"
    folder = Path(root)
    if not folder.is_dir():
        raise UserError(f"{spec}: the folder {folder} does not exist")
    split_file = folder / "ImageSets" / "Main" / f"{split}.txt"
    if not split_file.is_file():
        known = sorted(path.stem for path in split_file.parent.glob("*.txt"))
        there = f"; there are {', '.join(known)}" if known else ""
        raise UserError(f"{spec}: {split_file} does not exist{there}")

    images_folder = folder / "JPEGImages"
    if not images_folder.is_dir():
        raise UserError(f"{spec}: the folder {images_folder} does not exist")
    images = {
        path.stem: path
        for path in sorted(images_folder.iterdir())
        if path.suffix.lower() in IMAGE_SUFFIXES
    }

    annotations = []
    for line in split_file.read_text().splitlines():
        if not line.strip():
            continue
        # The per-class split files of VOC carry 1, 0 or -1 behind the name.
        image_id = line.split()[0]
        if image_id not in images:
            raise UserError(
                f"{spec}: {split_file} lists {image_id}, but {images_folder} has no "
                f"{image_id}.jpg, .jpeg or .png"
            )
        annotations.append(
            _read_annotation(folder / "Annotations" / f"{image_id}.xml", image_id, images[image_id])
        )
    if not annotations:
        raise UserError(f"{spec}: {split_file} lists no pictures")
    return annotations


def _read_annotation(path: Path, image_id: str, image_path: Path) -> Annotation:
    if not path.is_file():
        raise UserError(
            f"{path} does not exist: a picture without objects needs an annotation "
            "file without <object> in it"
        )
    try:
        tree = ElementTree.parse(path).getroot()
    except (ParseError, DefusedXmlException) as error:
        raise UserError(f"{path} is not an XML file that can be read: {error}") from error

    width, height = (_number(tree, f"size/{side}", path, default=0) for side in ("width", "height"))
    if width <= 0 or height <= 0:
        width, height = open_picture(image_path).size

    boxes, names, difficult = [], [], []
    for element in tree.iter("object"):
        name = element.findtext("name", "").strip()
        if not name:
            raise UserError(f"{path}: an <object> has no <name>")
        corners = [
            _number(element, f"bndbox/{corner}", path)
            for corner in ("xmin", "ymin", "xmax", "ymax")
        ]
        boxes.append(np.array(corners) / (width, height, width, height))
        names.append(name)
        difficult.append(_number(element, "difficult", path, default=0) != 0)
    return Annotation(
        image_id=image_id,
        path=image_path,
        boxes=np.array(boxes, np.float32).reshape(-1, 4),
        names=tuple(names),
        difficult=np.array(difficult, bool),
        crowd=np.zeros(len(names), bool),
        area=np.full(len(names), np.nan),
    )


def _number(element: Element, tag: str, path: Path, default: float | None = None) -> float:
    text = element.findtext(tag)
    if text is None or not text.strip():
        if default is not None:
            return default
        raise UserError(f"{path}: an <object> has no <{tag.replace('/', '><')}>")
    try:
        number = float(text)
    except ValueError:
        number = np.nan
    if not np.isfinite(number):
        raise UserError(f"{path}: <{tag}> is {text.strip()!r}, which is not a number")
    return number
