"""Converts the regions of a Label Studio annotation to objects."""

import math
from collections.abc import Mapping

from ssd_jax.data.formats.values import extremes, number, text
from ssd_jax.data.problems import Problem
from ssd_jax.data.records import Object
from ssd_jax.errors import shown

# The fields with the classes of regions that have a box, and of regions without one.
SHAPES = ("rectanglelabels", "polygonlabels", "ellipselabels")
WITHOUT_BOX = ("brushlabels", "keypointlabels", "vectorlabels")
# All fields with classes; the last two belong to a shape in another entry with the same id.
CLASSES = (*SHAPES, "labels", "choices")
# The fields of a shape; entries with the same id share them.
GEOMETRY = ("x", "y", "width", "height", "radiusX", "radiusY", "points")


def read_regions(
    regions: list, found: list[Problem]
) -> tuple[list[Object], tuple[float, float] | None, int]:
    """Reads the objects of an annotation, with boxes as fractions of the image.

    Args:
      regions: the regions, in the form of JSON or JSON-MIN.
      found: collects problems.

    Returns:
      The objects, (height, width) of the image or None if not stated, and the number of regions
      without a box: masks and points.
    """
    names = _names_by_region(regions)
    objects: list[Object] = []
    sizes: set[tuple[float, float]] = set()
    without_box = 0
    shapes: dict[str, list[object]] = {}
    for region in regions:
        value = _value(region)
        if value is None:
            found.append(Problem("annotation form", f"a region is {shown(region)}"))
            continue
        kind = text(region.get("type")) or next((key for key in SHAPES if key in value), "")
        if kind in WITHOUT_BOX or any(key in value for key in WITHOUT_BOX):
            without_box += 1
            continue
        identity = text(region.get("id"))
        is_shape = any(field in value for field in GEOMETRY)
        # Other regions are a choice or a text for the whole image.
        if not (is_shape or kind in SHAPES):
            continue
        shape = [value.get(field) for field in GEOMETRY]
        if identity and shapes.setdefault(identity, shape) is not shape:
            if shapes[identity] != shape:
                message = f"two shapes have the id {shown(identity)}"
                found.append(Problem("annotation form", message))
            continue
        size = _size(region)
        sizes |= {size} if size else set()
        objects += _objects(region, value, size, names.get(identity) or _names(value), found)
    if len(sizes) > 1:
        listed = " and ".join(f"{width:g} × {height:g}" for height, width in sorted(sizes))
        found.append(Problem("size", f"the regions state different sizes of the image: {listed}"))
    return objects, next(iter(sizes), None), without_box


def _objects(
    region: Mapping[str, object],
    value: Mapping[str, object],
    size: tuple[float, float] | None,
    names: list[str],
    found: list[Problem],
) -> list[Object]:
    """The objects of a region, one for each of its classes."""
    if number(region.get("image_rotation")):
        message = "the image was rotated in Label Studio (image_rotation)"
        found.append(Problem("annotation form", message))
    if not names:
        found.append(Problem("class missing", f"a region has no class: {shown(value)}"))
    box = _box(value, size)
    if isinstance(box, Problem):
        found.append(box)
        return []
    return [Object(name, box) for name in names]


def _value(region: object) -> Mapping[str, object] | None:
    """The shape and classes of a region; in JSON-MIN, this is the region itself."""
    if not isinstance(region, dict):
        return None
    is_minimal = "type" not in region and "from_name" not in region
    value = region.get("value", region if is_minimal else None)
    return value if isinstance(value, dict) else None


def _size(region: Mapping[str, object]) -> tuple[float, float] | None:
    height, width = (number(region.get(f"original_{side}")) for side in ("height", "width"))
    return (height, width) if height and width and min(height, width) >= 1 else None


def _names(value: Mapping[str, object]) -> list[str]:
    """The classes of a region; the fields of shapes come first."""
    for key in CLASSES:
        listed = value.get(key)
        names = [text(name) for name in listed] if isinstance(listed, list) else [text(listed)]
        if any(names):
            return [name for name in dict.fromkeys(names) if name]
    return []


def _names_by_region(regions: list) -> dict[str, list[str]]:
    """The classes by the id of a region; several entries may have the same id."""
    names: dict[str, list[str]] = {}
    order = {key: rank for rank, key in enumerate(CLASSES)}
    entries = [region for region in regions if isinstance(region, dict)]
    for region in sorted(entries, key=lambda each: order.get(text(each.get("type")), len(order))):
        value = region.get("value")
        if isinstance(value, dict) and _names(value):
            names.setdefault(text(region.get("id")), _names(value))
    return names


def _box(
    value: Mapping[str, object], size: tuple[float, float] | None
) -> tuple[float, float, float, float] | Problem:
    """The bounding box of a shape as fractions of the image; the shape is in percent."""
    x, y, angle = number(value.get("x")), number(value.get("y")), number(value.get("rotation", 0))
    if "points" in value:
        corners = extremes(value["points"])
    elif x is None or y is None or angle is None:
        corners = None
    elif angle and size is None:
        return Problem("size", "a region is rotated, but original_width and -height are missing")
    else:
        corners = _extent(value, x, y, math.radians(angle), size or (1.0, 1.0))
    if corners is None:
        return Problem("box", f"a region is {shown(value)}, which is not a shape in percent")
    x_min, y_min, x_max, y_max = (corner / 100 for corner in corners)
    return x_min, y_min, x_max, y_max


def _extent(
    value: Mapping[str, object], x: float, y: float, angle: float, size: tuple[float, float]
) -> tuple[float, float, float, float] | None:
    """The bounding box of a rectangle rotated around its first corner, or of a rotated ellipse.

    Args:
      value: its sides or radii, in percent.
      x: the x coordinate of the first corner, or of the centre, in percent.
      y: the y coordinate, in percent.
      angle: the rotation, clockwise in the pixels of the image, in radians.
      size: (height, width) of the image.
    """
    is_ellipse = "radiusX" in value
    fields = ("radiusX", "radiusY") if is_ellipse else ("width", "height")
    across, down = (number(value.get(field)) for field in fields)
    if across is None or down is None:
        return None
    if not angle and not is_ellipse:
        return x, y, x + across, y + down
    height, width = size
    cos, sin = math.cos(angle), math.sin(angle)
    across, down = across * width, down * height
    if is_ellipse:
        far_x, far_y = math.hypot(across * cos, down * sin), math.hypot(across * sin, down * cos)
        corners = [(-far_x, -far_y), (far_x, far_y)]
    else:
        corners = [
            (i * across * cos - j * down * sin, i * across * sin + j * down * cos)
            for i in (0, 1)
            for j in (0, 1)
        ]
    return extremes([[x + right / width, y + below / height] for right, below in corners])
