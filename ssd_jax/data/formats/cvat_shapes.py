"""Computes the boxes of shapes in CVAT's XML."""

import math
from typing import NamedTuple
from xml.etree.ElementTree import Element

from ssd_jax.data.formats.values import number
from ssd_jax.data.problems import MAX_PIXEL, Problem
from ssd_jax.errors import shown

Box = tuple[float, float, float, float]

SHAPES = ("box", "polygon", "polyline", "ellipse", "mask", "cuboid")
# Elements without a box.
WITHOUT_BOX = ("points", "tag", "skeleton")


class Numbers(NamedTuple):
    """Reads the attributes of a shape as numbers; `found` collects invalid ones."""

    element: Element
    found: list[Problem]

    def of(self, *names: str) -> list[float]:
        """The numbers of these attributes; 0 for invalid ones."""
        return [self._checked(name, self.element.get(name, "")) for name in names]

    def points(self) -> tuple[list[float], list[float]]:
        """The x and the y coordinates of `points="x,y;x,y"`."""
        pairs = [pair.split(",") for pair in self.element.get("points", "").strip(" ;").split(";")]
        if not all(len(pair) == 2 for pair in pairs):
            self._checked("points", self.element.get("points", ""))
            return [0.0], [0.0]
        x, y = ([self._checked("points", pair[i]) for pair in pairs] for i in (0, 1))
        return x, y

    def _checked(self, name: str, text: str) -> float:
        value = number(text)
        if value is not None:
            return value
        message = f"{name} of a <{self.element.tag}> is {shown(text)}, which is not a number"
        self.found.append(Problem("box", f"{message} of at most {MAX_PIXEL:,.0f}"))
        return 0.0


def box_of(element: Element, found: list[Problem]) -> Box:
    """The bounding box of a shape; adds its problems to `found`."""
    numbers = Numbers(element, found)
    if element.tag == "box":
        left, top, right, bottom = numbers.of("xtl", "ytl", "xbr", "ybr")
        centre, size = ((left + right) / 2, (top + bottom) / 2), (right - left, bottom - top)
        degrees = numbers.of("rotation")[0] if element.get("rotation") else 0.0
        if not degrees:
            return left, top, right, bottom
        angle = math.radians(degrees)
        cosine, sine = abs(math.cos(angle)), abs(math.sin(angle))
        half_width = (size[0] * cosine + size[1] * sine) / 2
        half_height = (size[0] * sine + size[1] * cosine) / 2
        return _box_around(centre, half_width, half_height)
    if element.tag == "ellipse":
        x, y, x_radius, y_radius = numbers.of("cx", "cy", "rx", "ry")
        angle = math.radians(numbers.of("rotation")[0] if element.get("rotation") else 0.0)
        cosine, sine = math.cos(angle), math.sin(angle)
        half_width = math.hypot(x_radius * cosine, y_radius * sine)
        half_height = math.hypot(x_radius * sine, y_radius * cosine)
        return _box_around((x, y), half_width, half_height)
    if element.tag == "mask":
        left, top, width, height = numbers.of("left", "top", "width", "height")
        return left, top, left + width, top + height
    if element.tag == "cuboid":
        corners = [f"{side}{i}" for side in ("tl", "bl", "tr", "br") for i in (1, 2)]
        x = numbers.of(*(f"x{corner}" for corner in corners))
        y = numbers.of(*(f"y{corner}" for corner in corners))
    else:
        x, y = numbers.points()
    return min(x), min(y), max(x), max(y)


def _box_around(centre: tuple[float, float], half_width: float, half_height: float) -> Box:
    x, y = centre
    return x - half_width, y - half_height, x + half_width, y + half_height
