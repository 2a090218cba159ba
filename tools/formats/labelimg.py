"""Writes the files of labelImg: an XML file next to each image, without lists."""

from collections.abc import Sequence
from pathlib import Path

from tools.formats.picture import Picture
from tools.formats.voc_xml import xml


def write(pictures: Sequence[Picture], folder: Path) -> None:
    """Writes images and their XML files into one folder."""
    for picture in pictures:
        path = folder / picture.name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(picture.encoded)
        path.with_suffix(".xml").write_text(xml(picture, folder.name), encoding="utf-8")
