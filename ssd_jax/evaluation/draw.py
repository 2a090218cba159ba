"""Draws boxes with labels onto pictures."""

import colorsys
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
    unit = max(image.size) / 100
    line_width = max(1, round(unit * 0.5))
    font = ImageFont.load_default(size=max(10, round(unit * 3)))
    # Boxes before labels, so that no line crosses a name; the best last, on top of the others.
    for box, label in zip(boxes[::-1], labels[::-1], strict=True):
        canvas.rectangle(tuple(box.tolist()), outline=class_color(int(label)), width=line_width)
    for i in reversed(range(len(labels))):
        x_min, y_min = boxes[i, :2].tolist()
        text = class_names[int(labels[i]) - 1]
        if scores is not None:
            text += f" {scores[i]:.2f}"
        left, top, right, bottom = canvas.textbbox((0, 0), text, font=font)
        width, height = right - left + 4, bottom - top + 4
        # Above the box, or inside it where the picture ends; never beyond the picture's sides.
        x = min(max(x_min, 0), max(image.width - width, 0))
        y = y_min - height if y_min >= height else max(y_min, 0)
        canvas.rectangle((x, y, x + width, y + height), fill=class_color(int(labels[i])))
        canvas.text((x + 2 - left, y + 2 - top), text, fill=(0, 0, 0), font=font)
    return image


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
