"""The embedded data set: images of geometric shapes, drawn on this machine in seconds.

Five classes in many sizes, rotated and overlapping, on textured backgrounds with noise. The seeds
are fixed, so that every machine draws the same images.
"""

import io
import math
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

CLASS_NAMES = ("circle", "cross", "square", "star", "triangle")
SPLIT_SIZES = {"train": 1500, "test": 300}


def write_images(folder: str, count: int, split: str = "test") -> None:
    """Writes the first images of a split as the JPEG files of the data set."""
    Path(folder).mkdir(parents=True, exist_ok=True)
    for index in range(count):
        encoded, _, _ = draw_example(split, index)
        (Path(folder) / file_name(split, index)).write_bytes(encoded.getvalue())


def file_name(split: str, index: int) -> str:
    """The file name of an image of a split."""
    return f"{split}_{index:05d}.jpg"


def draw_example(split: str, index: int) -> tuple[io.BytesIO, np.ndarray, list[int]]:
    """Draws an image of a split as a JPEG file, with boxes and labels of `draw`."""
    image, boxes, labels = draw(np.random.default_rng([len(split), index]))
    encoded = io.BytesIO()
    Image.fromarray(image).save(encoded, "JPEG", quality=90)
    encoded.seek(0)
    return encoded, boxes, labels


def draw(random: np.random.Generator) -> tuple[np.ndarray, np.ndarray, list[int]]:
    """Draws one image.

    Returns:
      The image `[height, width, 3] uint8`, boxes `[objects, 4] xyxy` as fractions of it, and
      labels from 0.
    """
    height, width = random.integers(140, 221, size=2)
    background = random.uniform(0, 255, 3)
    canvas = _texture(random, height, width, background, contrast=35)
    masks, corners, labels = [], [], []
    for _ in range(random.integers(2, 10)):
        label = int(random.integers(len(CLASS_NAMES)))
        outline = _outline(CLASS_NAMES[label], random)
        side = math.exp(random.uniform(math.log(28), math.log(0.7 * min(height, width))))
        outline -= outline.min(axis=0)
        outline *= side / outline.max()
        extent = outline.max(axis=0)
        offset = random.uniform((0, 0), (width - extent[0], height - extent[1]))
        mask = _fill(outline + offset, height, width)
        # Shapes may overlap, but each must stay mostly visible.
        if any((mask & other).sum() > 0.3 * min(mask.sum(), other.sum()) for other in masks):
            continue
        color = _other_color(random, background)
        canvas[mask] = _texture(random, height, width, color, contrast=25)[mask]
        masks.append(mask)
        corners.append(np.concatenate([offset, offset + extent]))
        labels.append(label)
    canvas += random.normal(0, random.uniform(2, 10), canvas.shape)
    boxes = np.array(corners) / (width, height, width, height)
    return np.clip(canvas, 0, 255).astype(np.uint8), np.clip(boxes, 0, 1), labels


def _other_color(random: np.random.Generator, background: np.ndarray) -> np.ndarray:
    """`[3]`: a colour that contrasts with the background."""
    while True:
        color = random.uniform(0, 255, 3)
        if np.linalg.norm(color - background) > 140:
            return color


def _texture(
    random: np.random.Generator, height: int, width: int, color: np.ndarray, contrast: float
) -> np.ndarray:
    """`[height, width, 3]`: a colour with smooth blotches, at most `contrast` away from it."""
    cells = random.integers(2, 12)
    blotches = color + random.uniform(-contrast, contrast, (cells, cells, 3))
    channels = [
        Image.fromarray(blotches[..., i].astype(np.float32)).resize(
            (width, height), Image.Resampling.BICUBIC
        )
        for i in range(3)
    ]
    return np.stack([np.asarray(channel) for channel in channels], axis=-1)


def _outline(name: str, random: np.random.Generator) -> np.ndarray:
    """Corners `[points, 2]` of a shape around the origin, rotated by up to 15 degrees."""
    if name == "cross":
        radius, angle = math.hypot(1, 0.3), math.atan2(0.3, 1)
        radii = np.tile([radius, math.hypot(0.3, 0.3), radius], 4)
        quarter = np.array([angle, math.pi / 4, math.pi / 2 - angle])
        angles = (quarter + math.pi / 2 * np.arange(4)[:, None]).ravel()
    else:
        radii, first = {
            "circle": (np.ones(48), 0.0),
            "square": (np.ones(4), math.pi / 4),
            "star": (np.tile([1.0, 0.42], 5), -math.pi / 2),
            "triangle": (np.ones(3), -math.pi / 2),
        }[name]
        angles = first + 2 * math.pi * np.arange(len(radii)) / len(radii)
    angles = angles + random.uniform(-1, 1) * math.radians(15)
    return radii[:, None] * np.stack([np.cos(angles), np.sin(angles)], axis=1)


def _fill(outline: np.ndarray, height: int, width: int) -> np.ndarray:
    """`[height, width] bool`: the pixels inside a polygon given as (x, y) corners."""
    image = Image.new("1", (width, height))
    ImageDraw.Draw(image).polygon([tuple(corner) for corner in outline], fill=1)
    return np.asarray(image)
