"""Draws boxes with labels onto pictures."""

import colorsys
import functools
import math
from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont

DRAWN_SIDE = 480  # pixels to which images are enlarged before boxes are drawn


def class_color(label: int) -> tuple[int, int, int]:
    """A bright colour of its own for every class: hues a golden section of a turn apart."""
    hue = (label * 0.61803398875) % 1.0
    return tuple(round(255 * channel) for channel in colorsys.hsv_to_rgb(hue, 0.75, 1.0))


def draw_boxes(
    image: Image.Image,
    boxes: np.ndarray,
    labels: np.ndarray,
    class_names: Sequence[str],
    scores: np.ndarray | None = None,
) -> Image.Image:
    """A copy of a picture with boxes, class names and scores on it.

    Args:
      image: RGB.
      boxes: `[objects, 4] xyxy` in pixels.
      labels: `[objects]` from 1.
      class_names: class i + 1 is called `class_names[i]`.
      scores: `[objects]` in [0, 1], written behind the names.
    """
    image = image.copy()
    canvas = ImageDraw.Draw(image)
    unit = math.sqrt(image.width * image.height) / 100
    line_width = max(2, round(unit * 0.4))
    font = _font(max(10, round(unit * 3)))
    # Boxes before labels, so that no line crosses a name; the best last, on top of the others.
    for box, label in zip(boxes[::-1], labels[::-1], strict=True):
        canvas.rectangle(tuple(box.tolist()), outline=class_color(int(label)), width=line_width)
    texts = [class_names[int(label) - 1] for label in labels]
    if scores is not None:
        texts = [f"{text} {score:.2f}" for text, score in zip(texts, scores, strict=True)]
    placed = []
    for box, text in zip(boxes, texts, strict=True):
        placed.append(_place_label(canvas.textbbox((0, 0), text, font=font), box, image, placed))
    for (x, y, x_max, y_max), text, label in reversed(
        list(zip(placed, texts, labels, strict=True))
    ):
        left, top, _, _ = canvas.textbbox((0, 0), text, font=font)
        canvas.rectangle((x, y, x_max, y_max), fill=class_color(int(label)))
        canvas.text((x + 2 - left, y + 2 - top), text, fill=(0, 0, 0), font=font)
    return image


def _place_label(
    text_box: tuple[float, ...], box: np.ndarray, image: Image.Image, placed: list[tuple]
) -> tuple[float, ...]:
    """`xyxy` of a label: above its box, or where that is taken at its top, its bottom or below.

    Never beyond the picture's sides. What is placed already, with better scores, stays free as far
    as possible.
    """
    left, top, right, bottom = text_box
    width, height = right - left + 4, bottom - top + 4
    x_min, y_min, _, y_max = box.tolist()
    x = min(max(x_min, 0), max(image.width - width, 0))
    places = [
        (x, y, x + width, y + height)
        for y in (y_min - height, y_min, y_max - height, y_max)
        if 0 <= y <= image.height - height
    ] or [(x, 0, x + width, height)]

    def is_free(place):
        return not any(
            place[0] < other[2]
            and other[0] < place[2]
            and place[1] < other[3]
            and other[1] < place[3]
            for other in placed
        )

    return next(filter(is_free, places), places[0])


@functools.cache
def _font(size: int) -> ImageFont.FreeTypeFont:
    return ImageFont.load_default(size=size)


def draw_input(
    pixels: np.ndarray, boxes: np.ndarray, labels: np.ndarray, class_names: Sequence[str]
) -> Image.Image:
    """What a network is given, enlarged so that lines and letters come out fine.

    Args:
      pixels: `[size, size, 3] uint8` RGB.
      boxes: `[objects, 4] xyxy` in [0, 1].
      labels: `[objects]` from 1, 0 = padding.
      class_names: class i + 1 is called `class_names[i]`.
    """
    image = Image.fromarray(pixels).resize((DRAWN_SIDE, DRAWN_SIDE))
    real = labels > 0
    return draw_boxes(image, boxes[real] * DRAWN_SIDE, labels[real], class_names)


def contact_sheet(
    images: Sequence[Image.Image],
    captions: Sequence[str] = (),
    *,
    columns: int = 4,
    cell: int = 320,
    gap: int = 8,
) -> Image.Image:
    """Pictures side by side on white, each fitted into a square cell.

    Args:
      images: the pictures.
      captions: a line below each; none where empty.
      columns: pictures side by side.
      cell: side of a picture in pixels.
      gap: pixels between pictures.
    """
    rows = -(-len(images) // columns)
    font_size = cell // 20
    pitch_x = cell + gap
    pitch_y = pitch_x + (2 * font_size if captions else 0)
    sheet = Image.new("RGB", (columns * pitch_x + gap, rows * pitch_y + gap), "white")
    canvas, font = ImageDraw.Draw(sheet), ImageFont.load_default(size=font_size)
    for i, image in enumerate(images):
        scale = cell / max(image.size)
        size = tuple(max(1, round(side * scale)) for side in image.size)
        row, column = divmod(i, columns)
        x = gap + column * pitch_x + (cell - size[0]) // 2
        y = gap + row * pitch_y + (cell - size[1]) // 2
        sheet.paste(image.resize(size, Image.Resampling.LANCZOS), (x, y))
        if captions:
            place = (gap + column * pitch_x + cell // 2, row * pitch_y + gap + cell + font_size)
            canvas.text(place, captions[i], fill=(0, 0, 0), font=font, anchor="mm")
    return sheet
