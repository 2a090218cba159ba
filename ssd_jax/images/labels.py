"""Class names on images: next to their boxes, or in a legend if they would cover the objects."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from PIL import ImageDraw

from ssd_jax.images.fonts import Font, font_and_text

Color = str | tuple[int, int, int]

MOST_COVERED = 0.25  # maximum share of an object, or of another name, that names may cover
MARGIN = 2  # pixels around a text


class Label(NamedTuple):
    """A text on a coloured area.

    Attributes:
      place: `[4] xyxy` in pixels, of the area behind the text.
      start: x and y of the text; whole numbers, so that all parts of an image look the same.
      text: the text, in characters of `font`.
      font: its font.
    """

    place: np.ndarray
    start: tuple[int, int]
    text: str
    font: Font


def lay_out_labels(
    size: tuple[int, int], boxes: np.ndarray, texts: Sequence[str], font_size: int
) -> list[Label]:
    """Lays out labels next to boxes, in an image with this width and height."""
    measured = [_measure(text, font_size) for text in texts]
    places = place_labels([label.place[2:] for label in measured], boxes, size)
    return [moved(label, place[:2]) for label, place in zip(measured, places, strict=True)]


def lay_out_legend(width: int, texts: Sequence[str], font_size: int) -> tuple[list[Label], int]:
    """Lays out labels in rows of this width, and returns the height of all rows too."""
    labels, gap = [], font_size // 3
    x, y, pitch = 0, gap, 0
    for label in (_measure(text, font_size, width) for text in texts):
        label_width, height = label.place[2:].astype(int).tolist()
        if x and x + label_width > width:
            x, y = 0, y + pitch
        pitch = max(pitch, height + gap)
        labels.append(moved(label, np.array([x, y])))
        x += label_width + gap
    return labels, y + pitch


def write_labels(
    canvas: ImageDraw.ImageDraw,
    labels: Sequence[Label],
    colors: Sequence[Color],
    corner: tuple[int, int] = (0, 0),
) -> None:
    """Writes labels, the first on top, on the part of an image with this corner."""
    width, height = canvas.im.size
    for label, color in zip(labels[::-1], colors[::-1], strict=True):
        place = in_part(label.place, corner)
        if place[0] < width and place[1] < height and place[2] >= 0 and place[3] >= 0:
            canvas.rectangle(place, fill=color)
            start = (label.start[0] - corner[0], label.start[1] - corner[1])
            canvas.text(start, label.text, fill=(0, 0, 0), font=label.font)


def in_part(box: np.ndarray, corner: tuple[int, int]) -> tuple[int, int, int, int]:
    """The whole pixels of a box, counted from the corner of a part of the image."""
    x_min, y_min, x_max, y_max = np.trunc(box).astype(int).tolist()
    left, top = corner
    return x_min - left, y_min - top, x_max - left, y_max - top


def cover_objects(labels: Sequence[Label], boxes: np.ndarray) -> bool:
    """Whether labels cover more than `MOST_COVERED` of a box of `[objects, 4]`, or of a label."""
    places = np.array([label.place for label in labels]).reshape(-1, 4)
    of_objects = _intersections(boxes, places).sum(axis=1) / np.maximum(_areas(boxes), 1)
    others = _intersections(places, places) * ~np.eye(len(labels), dtype=bool)
    of_labels = others.sum(axis=1) / _areas(places)
    return bool((np.concatenate([of_objects, of_labels]) > MOST_COVERED).any())


def place_labels(
    label_sizes: Sequence[np.ndarray], boxes: np.ndarray, image_size: tuple[int, int]
) -> np.ndarray:
    """`[objects, 4] xyxy` of labels: at a corner of the box, outside or inside.

    Of the free places, a label gets the one that covers the least of the objects. Earlier labels
    are placed first. A label is always inside the image.
    """
    places = np.zeros((len(boxes), 4))
    areas = np.maximum(_areas(boxes), 1)
    for i, label_size in enumerate(label_sizes):
        choices = _choices(boxes[i], np.asarray(label_size), np.array(image_size))
        taken = _intersections(choices, places[:i]).any(axis=1)
        covered = (_intersections(choices, boxes) / areas).sum(axis=1).round(3)
        places[i] = choices[np.lexsort([covered, taken])[0]]  # the first of equal ones
    return places


def _choices(box: np.ndarray, label_size: np.ndarray, image_size: np.ndarray) -> np.ndarray:
    """`[choices, 4] xyxy`: places of a label at the corners of a box, outside and inside."""
    (x_min, y_min, x_max, y_max), (width, height) = box.tolist(), label_size.tolist()
    left, right, top, bottom = x_min, x_max - width, y_min, y_max - height
    above, below = y_min - height, y_max
    outside = [(left, above), (right, above), (left, below), (right, below)]
    beside = [(x, y) for y in (top, bottom) for x in (x_max, x_min - width)]
    inside = [(left, top), (left, bottom), (right, top), (right, bottom)]
    corners = np.array([*outside, *inside, *beside])
    most = np.maximum(image_size - label_size, 0)
    # A label that is wider than its box may move along it, for example at the border of the image.
    corners[:8, 0] = np.clip(corners[:8, 0], 0, most[0])
    fits = ((corners >= 0) & (corners <= most)).all(axis=1)
    corners = corners[fits] if fits.any() else np.clip(corners[:1], 0, most)
    return np.concatenate([corners, corners + label_size], axis=1)


def fitted_text(text: str, font_size: int, width: int) -> tuple[Font, str]:
    """A font, and the text in its characters; a wide text is shortened in the middle."""
    font, whole = font_and_text(text, font_size)
    shorter, kept = whole, len(whole)
    while kept > 2 and font.getlength(shorter) > width:
        kept -= 1
        half = kept // 2
        shorter = f"{whole[: kept - half]}…{whole[-half:]}"
    return font, shorter


def _measure(text: str, font_size: int, most: int | None = None) -> Label:
    """A label in the corner of an image, no wider than `most`."""
    if most is None:
        font, text = font_and_text(text, font_size)
    else:
        font, text = fitted_text(text, font_size, most - 2 * MARGIN)
    left, top, right, bottom = font.getbbox(text)
    size = (right - left + 2 * MARGIN, bottom - top + 2 * MARGIN)
    return Label(np.array([0, 0, *size]), (int(MARGIN - left), int(MARGIN - top)), text, font)


def moved(label: Label, to: np.ndarray) -> Label:
    """The label, moved right and down by `to`."""
    x, y = to.tolist()
    start = (int(x + label.start[0]), int(y + label.start[1]))
    return label._replace(place=label.place + np.array([x, y, x, y]), start=start)


def _areas(boxes: np.ndarray) -> np.ndarray:
    return np.prod(boxes[:, 2:] - boxes[:, :2], axis=1)


def _intersections(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """`[n, m]`: the areas that `[n, 4]` and `[m, 4]` have in common."""
    low, high = (
        np.maximum(a[:, None, :2], b[None, :, :2]),
        np.minimum(a[:, None, 2:], b[None, :, 2:]),
    )
    return np.maximum(high - low, 0).prod(axis=2)
