"""Writes Pascal VOC's layout: Annotations, JPEGImages, ImageSets/Main."""

import collections
from collections.abc import Sequence
from pathlib import Path
from xml.sax.saxutils import escape

from ssd_jax.data.writers.written import Written, number

OBJECT = """  <object>
    <name>{name}</name>
    <pose>Unspecified</pose>
    <truncated>0</truncated>
    <difficult>{difficult}</difficult>
    <bndbox>
      <xmin>{box[0]}</xmin>
      <ymin>{box[1]}</ymin>
      <xmax>{box[2]}</xmax>
      <ymax>{box[3]}</ymax>
    </bndbox>
  </object>
"""
ANNOTATION = """<annotation>
  <folder>JPEGImages</folder>
  <filename>{name}</filename>
  <size>
    <width>{width}</width>
    <height>{height}</height>
    <depth>3</depth>
  </size>
  <segmented>0</segmented>
{objects}</annotation>
"""


class VocWriter:
    """Writes Pascal VOC's layout; see `Writer`. Box coordinates may be fractions of pixels."""

    keeps_difficult = True
    keeps_crowd = False

    def __init__(self, root: Path, class_names: Sequence[str]):
        """Begins a data set in a folder, with these classes."""
        self._root, self._class_names = root, tuple(class_names)
        self._stems: dict[str, list[str]] = collections.defaultdict(list)
        (root / "Annotations").mkdir()

    def image_folder(self, split: str) -> str:
        del split
        return "JPEGImages"

    def add(self, split: str, image: Written) -> None:
        stem, (height, width) = Path(image.name).stem, image.size
        objects = [
            OBJECT.format(
                name=escape(self._class_names[label - 1]),
                difficult=int(difficult),
                box=[number(corner) for corner in box],
            )
            for label, difficult, box in zip(
                image.labels.tolist(), image.difficult, image.boxes.tolist(), strict=True
            )
        ]
        text = ANNOTATION.format(
            name=escape(image.name), width=width, height=height, objects="".join(objects)
        )
        (self._root / "Annotations" / f"{stem}.xml").write_text(text, encoding="utf-8")
        self._stems[split].append(stem)

    def finish(self) -> None:
        folder = self._root / "ImageSets" / "Main"
        folder.mkdir(parents=True)
        for split, stems in self._stems.items():
            lines = "".join(f"{stem}\n" for stem in stems)
            (folder / f"{split}.txt").write_text(lines, encoding="utf-8")
