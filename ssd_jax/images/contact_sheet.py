"""A contact sheet: drawn images in a grid, with captions."""

from collections.abc import Sequence
from typing import NamedTuple

from PIL import Image, ImageDraw

from ssd_jax.images.labels import fitted_text


class Picture(NamedTuple):
    """A drawn image, and its caption of one or more lines."""

    image: Image.Image
    caption: str


def contact_sheet(
    pictures: Sequence[Picture],
    *,
    columns: int = 4,
    cell: int = 320,
    gap: int = 8,
    title: str = "",
) -> Image.Image:
    """Arranges pictures in a grid on white, each in a square cell with its caption below.

    Args:
      pictures: long lines of captions are shortened in the middle.
      columns: number of pictures per row.
      cell: side of a picture in pixels.
      gap: pixels between pictures.
      title: a line above the pictures.
    """
    rows = -(-len(pictures) // columns)
    font_size = cell // 20
    line_pitch = font_size * 5 // 4
    most_lines = max((len(picture.caption.splitlines()) for picture in pictures), default=0)
    pitch_x = cell + gap
    pitch_y = pitch_x + (font_size // 2 + most_lines * line_pitch if most_lines else 0)
    head = 2 * line_pitch if title else 0
    size = (columns * pitch_x + gap, head + rows * pitch_y + gap)
    sheet = Image.new("RGB", size, "white")
    canvas = ImageDraw.Draw(sheet)
    if title:
        font, text = fitted_text(title, font_size, size[0] - 2 * gap)
        canvas.text((gap, head // 2), text, fill=(0, 0, 0), font=font, anchor="lm")
    for i, (image, caption) in enumerate(pictures):
        scale = cell / max(image.size)
        size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
        row, column = divmod(i, columns)
        left, top = gap + column * pitch_x, head + gap + row * pitch_y
        x, y = left + (cell - size[0]) // 2, top + (cell - size[1]) // 2
        sheet.paste(image.resize(size, Image.Resampling.LANCZOS), (x, y))
        for number, line in enumerate(caption.splitlines()):
            font, text = fitted_text(line, font_size, cell)
            place = (left + cell // 2, top + cell + number * line_pitch + font_size)
            canvas.text(place, text, fill=(0, 0, 0), font=font, anchor="mm")
    return sheet
