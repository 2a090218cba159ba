"""Reads the content of an annotation file in Pascal VOC's XML."""

import math
import re
from pathlib import Path
from xml.etree.ElementTree import Element, ParseError

from defusedxml import DefusedXmlException, ElementTree

from ssd_jax.data.formats import values
from ssd_jax.data.problems import MAX_PIXEL, Problem, file_exists
from ssd_jax.data.records import Object
from ssd_jax.errors import reason_of, shown
from ssd_jax.storage.files import read_bytes

CORNERS = ("xmin", "ymin", "xmax", "ymax")
# Larger annotation files are not read. The largest file of VOC has about 30 kB.
MAX_BYTES = 16 * 2**20
# Words that tools write into <difficult> instead of numbers.
WORDS = {"true": 1.0, "yes": 1.0, "false": 0.0, "no": 0.0, "unspecified": 0.0, "none": 0.0}
DECLARED = re.compile(rb"""\s*<\?xml[^>]*?encoding\s*=\s*["']([\w.-]+)["'][^>]*\?>""")
OUTLINES = ("polygon", "points", "segmentation")
ROTATED = ("robndbox", "rotated_bndbox", "rbndbox")


def parse(path: Path, found: list[Problem]) -> Element | None:
    """Parses an XML file; returns its root, or None, and a problem in `found`, if that fails.

    Entities and external files are never read.
    """
    if not file_exists(path):
        found.append(Problem("annotation missing", "does not exist"))
        return None
    try:
        return _root(read_bytes(path, MAX_BYTES))
    except OSError as error:
        message = f"cannot be read: {reason_of(error)}"
        found.append(Problem("annotation unreadable", message))
        return None
    # LookupError: the encoding is unknown; ValueError: the file has another encoding.
    except (ParseError, DefusedXmlException, ValueError, LookupError) as error:
        message = f"cannot be read as XML: {error}"
        found.append(Problem("annotation unreadable", message))
        return None


def _root(content: bytes) -> Element:
    try:
        return ElementTree.fromstring(content)
    except ValueError as error:
        # The parser cannot read encodings like GBK, which Python can.
        declared = DECLARED.match(content)
        if isinstance(error, DefusedXmlException) or not declared:
            raise
        return ElementTree.fromstring(content[declared.end() :].decode(declared[1].decode()))


def read_size(root: Element, found: list[Problem]) -> tuple[float, float] | None:
    """(height, width) of the image, 0 where not stated; None, and a problem, if invalid."""
    tags = ("size/width", "size/height")
    if root.find("imagesize") is not None:
        tags = ("imagesize/ncols", "imagesize/nrows")
    width, height = (number(root, tag, "size", found, default=0.0) for tag in tags)
    return None if width is None or height is None else (height, width)


def read_objects(root: Element, found: list[Problem]) -> list[Object]:
    """Reads the objects, without their parts; adds their problems to `found`."""
    objects = []
    elements = root.findall("object") or root.findall("objects/object")
    num_inside = sum(1 for element in elements for _ in element.iter("bndbox"))
    if num_inside < sum(1 for _ in root.iter("bndbox")):
        message = "a <bndbox> is not in an <object> of the annotation"
        found.append(Problem("annotation form", message))
    for element in elements:
        if element.findtext("deleted", "").strip() == "1":
            continue
        for tag in ("name", "bndbox"):
            if len(element.findall(tag)) > 1:
                found.append(Problem("annotation form", f"an <object> has more than one <{tag}>"))
        name = element.findtext("name", "").strip()
        if not name:
            found.append(Problem("class missing", "an <object> has no <name>"))
        box = _box(element, found)
        word = WORDS.get(element.findtext("difficult", "").strip().lower())
        hard = word
        if hard is None:
            hard = number(element, "difficult", "annotation form", found, default=0.0)
        objects.append(Object(name, box, difficult=hard != 0))
    return objects


def _box(element: Element, found: list[Problem]) -> list[float]:
    """The corners of an object's box, or the bounding box of its outline or rotated box."""
    if element.find("bndbox") is None:
        for tag in ROTATED:
            rotated = element.find(tag)
            if rotated is not None:
                return _bounds_of_rotated(element, tag, found)
        for tag in OUTLINES:
            outline = element.find(tag)
            corners = None if outline is None else _bounds_of_outline(outline)
            if corners:
                return corners
    corners = [number(element, f"bndbox/{corner}", "box", found) for corner in CORNERS]
    return [corner or 0.0 for corner in corners]


def _bounds_of_rotated(element: Element, tag: str, found: list[Problem]) -> list[float]:
    """The bounding box of a rotated box of roLabelImg: centre, sides and an angle in radians."""
    tags = (f"{tag}/{each}" for each in ("cx", "cy", "w", "h", "angle"))
    x, y, width, height, angle = (number(element, each, "box", found) or 0.0 for each in tags)
    cosine, sine = abs(math.cos(angle)), abs(math.sin(angle))
    half_width = (width * cosine + height * sine) / 2
    half_height = (width * sine + height * cosine) / 2
    return [x - half_width, y - half_height, x + half_width, y + half_height]


def _bounds_of_outline(outline: Element) -> list[float] | None:
    """The bounding box of <x1><y1><x2>…, <pt><x><y>, or a text `x,y;x,y`; None for others."""
    sides: dict[str, list[float | None]] = {"x": [], "y": []}
    for each in outline.iter():
        if re.fullmatch("[xy][0-9]*", each.tag):
            sides[each.tag[0]].append(values.number(each.text))
    if not sides["x"]:
        texts = re.split(r"[\s,;]+", (outline.text or "").strip())
        numbers = [values.number(text) for text in texts]
        sides = {"x": numbers[0::2], "y": numbers[1::2]}
    x, y = sides["x"], sides["y"]
    if not x or len(x) != len(y):
        return None
    corners = values.extremes([list(point) for point in zip(x, y, strict=True)])
    return list(corners) if corners else None


def number(
    element: Element, tag: str, kind: str, found: list[Problem], default: float | None = None
) -> float | None:
    """The number in a tag; None, and a problem in `found`, if invalid."""
    text = (element.findtext(tag) or "").strip()
    if not text and default is not None:
        return default
    value = values.number(text)
    if value is not None:
        return value
    tags = f"<{tag.replace('/', '><')}>"
    if text:
        message = f"{tags} is {shown(text)}, which is not a number of at most {MAX_PIXEL:,.0f}"
    else:
        message = f"an <object> has no {tags}"
    found.append(Problem(kind, message))
    return None
