"""Draws boxes with names onto images."""

import colorsys
import math
from collections import Counter
from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw

from ssd_jax.images.labels import (
    Color,
    cover_objects,
    lay_out_labels,
    lay_out_legend,
    moved,
    write_labels,
)

DRAWN_SIDE = 480  # pixels; smaller images are enlarged to this side before boxes are drawn
CASE_SIDE = 320  # pixels of the larger side of a case
MOST_EXTENDED = 16_000_000  # pixels; larger images are not copied to add space for a legend


def class_color(label: int) -> tuple[int, int, int]:
    """A bright colour for each class; the hues of successive classes differ by the golden ratio."""
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
    """Draws boxes, class names and scores on an image, and returns it: see `BoxDrawing`.

    Returns a new image if the image is smaller than `DRAWN_SIDE`, and so enlarged to it, or if a
    legend is added below. In an image of more than `MOST_EXTENDED` pixels the legend covers the
    bottom.
    """
    image, scale = _enlarged(image)
    boxes = boxes * scale
    extends = math.prod(image.size) <= MOST_EXTENDED
    drawing = BoxDrawing(image.size, boxes, labels, class_names, scores, extends)
    if drawing.size != image.size:
        extended = Image.new("RGB", drawing.size, "white")
        extended.paste(image)
        image = extended
    drawing.draw(image)
    return image


class BoxDrawing:
    """Boxes with names and scores, laid out for an image that may be drawn in parts.

    If names next to the boxes would cover too much of the objects (see `cover_objects`), a legend
    replaces them: the colour of each class, the number of its boxes, and their scores. If boxes
    coincide, later ones are drawn inside the first.

    Attributes:
      size: width and height of the drawing, including the space for the legend.
    """

    def __init__(
        self,
        size: tuple[int, int],
        boxes: np.ndarray,
        labels: np.ndarray,
        class_names: Sequence[str],
        scores: np.ndarray | None = None,
        extends: bool = False,
        tracks: np.ndarray | None = None,
    ) -> None:
        """Lays out boxes and labels.

        Args:
          size: width and height of the image.
          boxes: `[objects, 4] xyxy` in pixels.
          labels: `[objects]` from 1.
          class_names: class i + 1 is called `class_names[i]`.
          scores: `[objects]` in [0, 1], written after the names.
          extends: whether a legend goes below the image; otherwise it covers its bottom.
          tracks: `[objects]` numbers from 1, written after the names; 0 = none.
        """
        self.size = self._image_size = size
        self._boxes = boxes
        self._colors = [class_color(int(label)) for label in labels]
        self._widths = _line_widths(boxes, size)
        self._insets = _insets(boxes, self._widths)
        texts = [class_names[int(label) - 1] for label in labels]
        if tracks is not None:
            texts = [
                f"{text} #{track}" if track else text
                for text, track in zip(texts, tracks, strict=True)
            ]
        if scores is not None:
            texts = [f"{text} {score:.2f}" for text, score in zip(texts, scores, strict=True)]
        font_size = max(10, round(3 * _unit(size)))
        self._labels = lay_out_labels(size, boxes, texts, font_size)
        self._label_colors = self._colors
        if cover_objects(self._labels, boxes):
            entries = _legend_entries(labels, class_names, scores)
            legend, height = lay_out_legend(size[0], list(entries.values()), font_size)
            if extends:
                self.size = (size[0], size[1] + height)
            top = np.array([0, self.size[1] - height])
            self._labels = [moved(label, top) for label in legend]
            self._label_colors = [class_color(label) for label in entries]

    def draw(self, image: Image.Image, corner: tuple[int, int] = (0, 0)) -> None:
        """Draws on the image, or on a part of it with left and top at `corner`."""
        canvas = ImageDraw.Draw(image)
        # Boxes before labels, so that no line crosses a name; the best box last, on top.
        boxes = self._boxes + self._insets[:, None] * np.array([1, 1, -1, -1])
        drawn = zip(boxes[::-1], self._colors[::-1], self._widths[::-1], strict=True)
        for box, color, width in drawn:
            _draw_box(canvas, box, color, int(width), self._image_size, corner)
        write_labels(canvas, self._labels, self._label_colors, corner)


def draw_results(
    pixels: np.ndarray,
    true_boxes: np.ndarray,
    boxes: np.ndarray,
    labels: np.ndarray,
    class_names: Sequence[str],
    scores: np.ndarray | None = None,
) -> Image.Image:
    """An image with its objects in white, and detections in the colours of their classes.

    Args:
      pixels: `[height, width, 3] uint8` RGB.
      true_boxes: `[objects, 4] xyxy` in pixels.
      boxes: `[detections, 4] xyxy` in pixels.
      labels: `[detections]` from 1.
      class_names: class i + 1 is called `class_names[i]`.
      scores: `[detections]` in [0, 1], written after the names.
    """
    image, scale = _enlarged(Image.fromarray(pixels))
    canvas = ImageDraw.Draw(image)
    true_boxes = true_boxes * scale
    for box, width in zip(true_boxes, _line_widths(true_boxes, image.size), strict=True):
        _draw_box(canvas, box, (255, 255, 255), int(width), image.size)
    return draw_boxes(image, boxes * scale, labels, class_names, scores)


def _enlarged(image: Image.Image) -> tuple[Image.Image, np.ndarray]:
    """An image, enlarged to `DRAWN_SIDE` if it is smaller, and the scale of its boxes `[4]`."""
    scale = DRAWN_SIDE / max(image.size)
    if scale <= 1:
        return image, np.ones(4)
    width, height = (max(1, round(side * scale)) for side in image.size)
    enlarged = image.resize((width, height), Image.Resampling.BICUBIC)
    return enlarged, np.tile((width / image.width, height / image.height), 2)


def _unit(size: tuple[int, int]) -> float:
    """A hundredth of an image's side, in pixels."""
    return math.sqrt(size[0] * size[1]) / 100


def _line_widths(boxes: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """`[objects] int`: line widths for an image of this width and height; thin for small boxes."""
    most = max(2, math.ceil(_unit(size) / 2))
    sides = (boxes[:, 2:] - boxes[:, :2]).min(axis=1)
    return np.clip(np.round(0.15 * sides), max(2, math.ceil(most / 3)), most).astype(int)


def _insets(boxes: np.ndarray, widths: np.ndarray) -> np.ndarray:
    """`[objects]` pixels by which boxes are shrunk, so that earlier boxes do not hide them.

    Args:
      boxes: `[objects, 4] xyxy` in pixels, all drawn with lines of these widths.
      widths: `[objects]`.
    """
    # A line hides another one at a distance below its width. So a box hides a box with four such
    # sides.
    near = np.abs(boxes[:, None] - boxes[None]).max(axis=2, initial=0) < widths[:, None]
    earlier = np.tril(near, -1).sum(axis=1)
    sides = (boxes[:, 2:] - boxes[:, :2]).min(axis=1, initial=np.inf)
    return np.minimum(earlier * (widths + _black_width(widths)), np.maximum(sides, 0) // 3)


def _black_width(width: np.ndarray | int) -> np.ndarray:
    """The width of the black line around a coloured one of this width."""
    return np.maximum(1, width // 4)


def _legend_entries(
    labels: np.ndarray, class_names: Sequence[str], scores: np.ndarray | None
) -> dict[int, str]:
    """The texts of a legend by label, the most frequent first: `star 3 (0.41-0.97)`."""
    entries = {}
    for label, count in Counter(map(int, labels)).most_common():
        entries[label] = f"{class_names[label - 1]} {count}"
        if scores is not None:
            own = scores[labels == label]
            least, most = f"{own.min():.2f}", f"{own.max():.2f}"
            entries[label] += f" ({least})" if least == most else f" ({least}-{most})"
    return entries


def _draw_box(
    canvas: ImageDraw.ImageDraw,
    box: np.ndarray,
    color: Color,
    width: int,
    size: tuple[int, int],
    corner: tuple[int, int] = (0, 0),
) -> None:
    """Draws a coloured line around a box, and a black line around it, for dark and light images.

    The lines are outside the box, which may be small, but inside the image.

    Args:
      canvas: an image, or the part of it with this corner.
      box: `[4] xyxy` in pixels of the image.
      color: of the inner line.
      width: of the inner line.
      size: width and height of the image.
      corner: left and top of the part.
    """
    x_min, y_min, x_max, y_max = np.trunc(box).astype(int).tolist()
    left, top = corner
    black = int(_black_width(width))
    for line, beyond, fill in ((black, width + black - 1, (0, 0, 0)), (width, width - 1, color)):
        low = max(x_min - beyond, 0) - left, max(y_min - beyond, 0) - top
        high = min(x_max + beyond, size[0] - 1) - left, min(y_max + beyond, size[1] - 1) - top
        if low[0] <= high[0] and low[1] <= high[1]:  # not entirely outside the image
            canvas.rectangle((*low, *high), outline=fill, width=line)


def draw_input(
    pixels: np.ndarray, boxes: np.ndarray, labels: np.ndarray, class_names: Sequence[str]
) -> Image.Image:
    """Draws the input of a network with boxes, enlarged so that lines and letters are sharp.

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
    pixels: np.ndarray, true_boxes: np.ndarray, box: np.ndarray, text: str, color: str
) -> Image.Image:
    """The part of an image around a box, three times its size, with the objects in white.

    Args:
      pixels: `[height, width, 3] uint8` RGB.
      true_boxes: `[objects, 4] xyxy` in pixels.
      box: `[4] xyxy` in pixels.
      text: the label of the box.
      color: of the box.
    """
    image = Image.fromarray(pixels)
    width, height = image.size
    side = max(3 * float((box[2:] - box[:2]).max()), CASE_SIDE / 3)
    side_x, side_y = min(side, width), min(side, height)
    centre_x, centre_y = (box[:2] + box[2:]) / 2
    left = min(max(centre_x - side_x / 2, 0.0), width - side_x)
    top = min(max(centre_y - side_y / 2, 0.0), height - side_y)
    scale = CASE_SIDE / max(side_x, side_y)
    size = (max(1, round(side_x * scale)), max(1, round(side_y * scale)))
    part = image.resize(size, Image.Resampling.BICUBIC, (left, top, left + side_x, top + side_y))
    canvas = ImageDraw.Draw(part)
    whole, corner = (round(width * scale), round(height * scale)), np.array([left, top]) * scale
    start = (round(corner[0]), round(corner[1]))
    for own, fill, line in (*((each, "#ffffff", 3) for each in true_boxes), (box, color, 4)):
        _draw_box(canvas, own * scale, fill, line, whole, start)
    labels = lay_out_labels(part.size, (box * scale - np.tile(corner, 2))[None], [text], 20)
    write_labels(canvas, labels, [color])
    return part
