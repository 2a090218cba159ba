"""Writes Pascal VOC's layout: Annotations, JPEGImages and a list for training."""

from collections.abc import Sequence
from pathlib import Path
from xml.sax.saxutils import escape

from tools.formats.picture import Picture


def write(pictures: Sequence[Picture], folder: Path) -> None:
    """Writes images, XML files and `ImageSets/Main/train.txt`."""
    names = []
    for picture in pictures:
        image = folder / "JPEGImages" / picture.name
        annotation = (folder / "Annotations" / picture.name).with_suffix(".xml")
        for path in (image, annotation):
            path.parent.mkdir(parents=True, exist_ok=True)
        image.write_bytes(picture.encoded)
        annotation.write_text(xml(picture, folder.name), encoding="utf-8")
        names.append(picture.name.rpartition(".")[0])
    split = folder / "ImageSets/Main/train.txt"
    split.parent.mkdir(parents=True, exist_ok=True)
    split.write_text("".join(f"{name}\n" for name in names), encoding="utf-8")


def xml(picture: Picture, folder: str) -> str:
    """The annotation of an image, in the order of labelImg's tags."""
    height, width = picture.size
    lines = [
        "<annotation>",
        f"\t<folder>{escape(folder)}</folder>",
        f"\t<filename>{escape(picture.name.rpartition('/')[2])}</filename>",
        "\t<source>\n\t\t<database>Unknown</database>\n\t</source>",
        f"\t<size>\n\t\t<width>{width}</width>\n\t\t<height>{height}</height>",
        "\t\t<depth>3</depth>\n\t</size>",
        "\t<segmented>0</segmented>",
    ]
    for each in picture.objects:
        corners = zip(("xmin", "ymin", "xmax", "ymax"), each.box, strict=True)
        lines += [
            f"\t<object>\n\t\t<name>{escape(each.name)}</name>",
            "\t\t<pose>Unspecified</pose>\n\t\t<truncated>0</truncated>",
            f"\t\t<difficult>{int(each.difficult)}</difficult>\n\t\t<bndbox>",
            *(f"\t\t\t<{tag}>{value:.10g}</{tag}>" for tag, value in corners),
            "\t\t</bndbox>\n\t</object>",
        ]
    return "\n".join([*lines, "</annotation>\n"])
