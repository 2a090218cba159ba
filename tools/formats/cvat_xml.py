"""Writes "CVAT for images 1.1": annotations.xml and a folder of images."""

from collections.abc import Sequence
from pathlib import Path
from xml.sax.saxutils import escape, quoteattr

from tools.formats.picture import Picture


def write(pictures: Sequence[Picture], folder: Path) -> None:
    """Writes the images of a task below `images`, and `annotations.xml`."""
    names = sorted({each.name for picture in pictures for each in picture.objects})
    labels = "".join(
        f"<label><name>{escape(name)}</name><type>any</type><attributes></attributes></label>"
        for name in names
    )
    lines = [
        '<?xml version="1.0" encoding="utf-8"?>\n<annotations>\n  <version>1.1</version>',
        f"  <meta><task><id>1</id><name>task</name><size>{len(pictures)}</size>"
        f"<mode>annotation</mode><labels>{labels}</labels></task></meta>",
    ]
    for image_id, picture in enumerate(pictures):
        path = folder / "images" / picture.name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(picture.encoded)
        height, width = picture.size
        lines.append(
            f'  <image id="{image_id}" name={quoteattr(picture.name)} width="{width}" '
            f'height="{height}">'
        )
        for each in picture.objects:
            corners = zip(("xtl", "ytl", "xbr", "ybr"), each.box, strict=True)
            box = " ".join(f'{name}="{value:.2f}"' for name, value in corners)
            lines.append(
                f'    <box label={quoteattr(each.name)} source="manual" occluded="0" {box} '
                'z_order="0">\n    </box>'
            )
        lines.append("  </image>")
    (folder / "annotations.xml").write_text("\n".join([*lines, "</annotations>\n"]), "utf-8")
