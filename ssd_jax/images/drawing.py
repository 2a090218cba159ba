"""Draws boxes with labels onto images."""

import colorsys
import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageDraw

from ssd_jax.images.fonts import Font, font_and_text

DRAWN_SIDE = 480  # pixels to which images are enlarged before boxes are drawn
CASE_SIDE = 320  # pixels of the larger side of a case


def class_color(label: int) -> tuple[int, int, int]:
    """A bright colour of its own for every class: hues a golden section of a turn apart."""
    hue = (label * 0.61803398875) % 1.0
    red, green, blue = (round(255 * each) for each in colorsys.hsv_to_rgb(hue, 0.75, 1.0))
    return red, green, blue


def draw_boxes(
    image: Image.Image,
    boxes: np.ndarray,
    labels: np.ndarray,
    class_names: Sequence[str],
    scores: np.ndarray | None = None,
) -> Image.Image:
    """Draws boxes, class names and scores on an image, and returns it: see `BoxDrawing`."""
    BoxDrawing(image.size, boxes, labels, class_names, scores).draw(image)
    return image


class BoxDrawing:
    """Boxes, class names and scores, laid out for an image, which may be drawn on in parts.

    Args:
      size: width and height of the image.
      boxes: `[objects, 4] xyxy` in pixels.
      labels: `[objects]` from 1.
      class_names: class i + 1 is called `class_names[i]`.
      scores: `[objects]` in [0, 1], written behind the names.
    """

    def __init__(
        self,
        size: tuple[int, int],
        boxes: np.ndarray,
        labels: np.ndarray,
        class_names: Sequence[str],
        scores: np.ndarray | None = None,
    ) -> None:
        unit = math.sqrt(size[0] * size[1]) / 100
        self._line_width = max(2, round(unit * 0.4))
        self._boxes = boxes
        self._colors = [class_color(int(label)) for label in labels]
        texts = [class_names[int(label) - 1] for label in labels]
        if scores is not None:
            texts = [f"{text} {score:.2f}" for text, score in zip(texts, scores, strict=True)]
        self._labels = _lay_out_labels(size, boxes, texts, max(10, round(unit * 3)))

    def draw(self, image: Image.Image, corner: tuple[int, int] = (0, 0)) -> None:
        """Draws on the image, or on a part of it, whose left and top are `corner`."""
        canvas = ImageDraw.Draw(image)
        # Boxes before labels, so that no line crosses a name; the best last, on top of the others.
        for box, color in zip(self._boxes[::-1], self._colors[::-1], strict=True):
            canvas.rectangle(_in_part(box, corner), outline=color, width=self._line_width)
        _write_labels(canvas, self._labels, self._colors, corner)


class _Label(NamedTuple):
    """A text beside a box.

    Attributes:
      place: `[4] xyxy` in pixels, of the area behind the text.
      start: x and y where the text begins, whole so that all parts of an image show the same.
      text: what is written, with this font.
    """

    place: np.ndarray
    start: tuple[int, int]
    text: str
    font: Font


def _lay_out_labels(
    size: tuple[int, int], boxes: np.ndarray, texts: Sequence[str], font_size: int
) -> list[_Label]:
    """Labels beside boxes, in an image of some width and height."""
    canvas = ImageDraw.Draw(Image.new("RGB", (1, 1)))
    drawn = [font_and_text(text, font_size) for text in texts]
    extents = [canvas.textbbox((0, 0), text, font=font) for font, text in drawn]
    places = _place_labels(
        [(right - left + 4, bottom - top + 4) for left, top, right, bottom in extents],
        boxes,
        size,
    )
    return [
        _Label(place, (int(place[0] + 2 - left), int(place[1] + 2 - top)), text, font)
        for place, (left, top, _, _), (font, text) in zip(places, extents, drawn, strict=True)
    ]


def _write_labels(
    canvas: ImageDraw.ImageDraw,
    labels: Sequence[_Label],
    colors: Sequence[str | tuple[int, int, int]],
    corner: tuple[int, int] = (0, 0),
) -> None:
    """Writes labels, the first on top, on the part of an image with this corner."""
    width, height = canvas.im.size
    for label, color in zip(labels[::-1], colors[::-1], strict=True):
        place = _in_part(label.place, corner)
        if place[0] < width and place[1] < height and place[2] >= 0 and place[3] >= 0:
            canvas.rectangle(place, fill=color)
            start = (label.start[0] - corner[0], label.start[1] - corner[1])
            canvas.text(start, label.text, fill=(0, 0, 0), font=label.font)


def _in_part(box: np.ndarray, corner: tuple[int, int]) -> tuple[int, int, int, int]:
    """The whole pixels of a box, counted from the corner of a part of the image."""
    x_min, y_min, x_max, y_max = np.trunc(box).astype(int).tolist()
    left, top = corner
    return x_min - left, y_min - top, x_max - left, y_max - top


def _place_labels(
    label_sizes: Sequence[tuple[float, float]], boxes: np.ndarray, image_size: tuple[int, int]
) -> np.ndarray:
    """`[objects, 4] xyxy` of labels: above the box, or at its top, its bottom or below it.

    The first of these that is free; earlier labels choose first. Never beyond the image's sides.
    """
    places = np.zeros((len(boxes), 4))
    for i, (width, height) in enumerate(label_sizes):
        x_min, y_min, _, y_max = boxes[i].tolist()
        x = min(max(x_min, 0), max(image_size[0] - width, 0))
        choices = [
            (x, y, x + width, y + height)
            for y in (y_min - height, y_min, y_max - height, y_max)
            if 0 <= y <= image_size[1] - height
        ] or [(x, 0, x + width, height)]
        low, high = np.split(np.array(choices)[:, None], 2, axis=2)
        earlier_low, earlier_high = np.split(places[:i], 2, axis=1)
        overlapping = np.all((low < earlier_high) & (earlier_low < high), axis=2)
        taken = np.any(overlapping, axis=1)
        places[i] = choices[int(taken.argmin())]  # the first that is free, or the first
    return places


def draw_input(
    pixels: np.ndarray, boxes: np.ndarray, labels: np.ndarray, class_names: Sequence[str]
) -> Image.Image:
    """Draws the input of a network, enlarged so that lines and letters come out fine.

    Args:
      pixels: `[size, size, 3] uint8` RGB.
      boxes: `[objects, 4] xyxy` in [0, 1].
      labels: `[objects]` from 1, 0 = padding.
      class_names: class i + 1 is called `class_names[i]`.
    """
    image = Image.fromarray(pixels).resize((DRAWN_SIDE, DRAWN_SIDE))
    real = labels > 0
    return draw_boxes(image, boxes[real] * DRAWN_SIDE, labels[real], class_names)


def draw_case(
    pixels: np.ndarray,
    true_boxes: np.ndarray,
    boxes: np.ndarray,
    texts: Sequence[str],
    *,
    color: str = "#e3b23c",
    around: np.ndarray | None = None,
) -> Image.Image:
    """An image, or the part round a box, with the objects in white and boxes in a colour.

    Args:
      pixels: `[height, width, 3] uint8` RGB.
      true_boxes: `[objects, 4] xyxy` in pixels.
      boxes: `[boxes, 4] xyxy` in pixels.
      texts: what to write at each box.
      color: of the boxes.
      around: `[4] xyxy` in pixels; the part is three times as large. The whole where None.
    """
    image = Image.fromarray(pixels)
    width, height = image.size
    left, top, side_x, side_y = 0.0, 0.0, float(width), float(height)
    if around is not None:
        extent = around[2:] - around[:2]
        side = max(3 * float(extent.max()), CASE_SIDE / 3)
        side_x, side_y = min(side, width), min(side, height)
        centre_x, centre_y = (around[:2] + around[2:]) / 2
        left = min(max(centre_x - side_x / 2, 0.0), width - side_x)
        top = min(max(centre_y - side_y / 2, 0.0), height - side_y)
    scale = CASE_SIDE / max(side_x, side_y)
    size = (max(1, round(side_x * scale)), max(1, round(side_y * scale)))
    part = image.resize(size, Image.Resampling.BICUBIC, (left, top, left + side_x, top + side_y))
    canvas = ImageDraw.Draw(part)
    origin = np.array([left, top, left, top])
    for box in (true_boxes - origin) * scale:
        outside = (*(box[:2] - 1), *(box[2:] + 1))
        canvas.rectangle(outside, outline="#000000", width=5)
        canvas.rectangle(tuple(box.tolist()), outline="#ffffff", width=3)
    for box in (boxes - origin) * scale:
        canvas.rectangle(tuple(box.tolist()), outline=color, width=4)
    labels = _lay_out_labels(part.size, (boxes - origin) * scale, texts, 20)
    _write_labels(canvas, labels, [color] * len(texts))
    return part


class Picture(NamedTuple):
    """An image that was drawn, and its caption of one or more lines."""

    image: Image.Image
    caption: str


def contact_sheet(
    pictures: Sequence[Picture], *, columns: int = 4, cell: int = 320, gap: int = 8
) -> Image.Image:
    """Pictures side by side on white, each fitted into a square cell, with its caption below it.

    Args:
      pictures: of a line that is too wide, the middle is left out.
      columns: pictures side by side.
      cell: side of a picture in pixels.
      gap: pixels between pictures.
    """
    rows = -(-len(pictures) // columns)
    font_size = cell // 20
    line_pitch = font_size * 5 // 4
    most_lines = max((len(picture.caption.splitlines()) for picture in pictures), default=0)
    pitch_x = cell + gap
    pitch_y = pitch_x + (font_size // 2 + most_lines * line_pitch if most_lines else 0)
    sheet = Image.new("RGB", (columns * pitch_x + gap, rows * pitch_y + gap), "white")
    canvas = ImageDraw.Draw(sheet)
    for i, (image, caption) in enumerate(pictures):
        scale = cell / max(image.size)
        size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
        row, column = divmod(i, columns)
        left, top = gap + column * pitch_x, gap + row * pitch_y
        x, y = left + (cell - size[0]) // 2, top + (cell - size[1]) // 2
        sheet.paste(image.resize(size, Image.Resampling.LANCZOS), (x, y))
        for number, line in enumerate(caption.splitlines()):
            font, text = _fitted(line, font_size, cell)
            place = (left + cell // 2, top + cell + number * line_pitch + font_size)
            canvas.text(place, text, fill=(0, 0, 0), font=font, anchor="mm")
    return sheet


def _fitted(text: str, font_size: int, width: int) -> tuple[Font, str]:
    """A font, and the text as it can be drawn with it; without its middle where it is too wide."""
    font, whole = font_and_text(text, font_size)
    shorter, kept = whole, len(whole)
    while kept > 2 and font.getlength(shorter) > width:
        kept -= 1
        half = kept // 2
        shorter = f"{whole[: kept - half]}…{whole[-half:]}"
    return font, shorter
