"""The images of the tutorials: streets with road signs, in YOLO's format; and their detector."""

from pathlib import Path

import numpy as np
import saved_figures
from PIL import Image, ImageDraw

import ssd_jax

saved_figures.use_without_display()

CLASS_NAMES = ("no_entry", "stop", "straight_on", "yield")
SIDE = 160  # of an image, in pixels
FINER = 3  # signs are drawn in a larger image, which is made smaller at the end

RED, BLUE, WHITE = "#b5121b", "#1746a2", "#f4f4f4"
BAR = [(-0.7, -0.18), (0.7, -0.18), (0.7, 0.18), (-0.7, 0.18)]
ARROW = [(-0.15, 0.6), (-0.15, -0.1), (-0.45, -0.1), (0, -0.65), (0.45, -0.1), (0.15, -0.1)]
ARROW += [(0.15, 0.6)]


def train_signs() -> ssd_jax.Config:
    """Trains the detector of the first tutorial, if that was not done yet; returns its config."""
    write_signs("runs/data/signs", 250)
    config = ssd_jax.load_config(
        "quickstart",
        [
            "data.train=runs/data/signs",
            "model.width=0.125",
            "steps=200",
            "batch_size=8",
            "eval_every=100",
        ],
    )
    ssd_jax.train(config, "runs/signs")
    return config


def write_signs(folder: str, count: int, seed: int = 0, fog: float = 0.0) -> None:
    """Writes images, a text file for each one with its objects, and `classes.txt`.

    Args:
      folder: the folder to write.
      count: the number of images.
      seed: other seeds draw other images.
      fog: 0 for none; with 1, small signs disappear in it.
    """
    random = np.random.default_rng(seed)
    path = Path(folder)
    path.mkdir(parents=True, exist_ok=True)
    (path / "classes.txt").write_text("".join(f"{name}\n" for name in CLASS_NAMES))
    for number in range(count):
        image, objects = draw_street(random, fog)
        image.save(path / f"street_{number:03}.jpg", quality=92)
        lines = (" ".join([str(label), *(f"{part:.4f}" for part in box)]) for label, box in objects)
        (path / f"street_{number:03}.txt").write_text("".join(f"{line}\n" for line in lines))


def draw_street(
    random: np.random.Generator, fog: float = 0.0
) -> tuple[Image.Image, list[tuple[int, np.ndarray]]]:
    """An image with one to four signs, and the class and `[4] cxcywh` in [0, 1] of each."""
    canvas = _background(random)
    pen = ImageDraw.Draw(canvas)
    signs: list[tuple[int, np.ndarray, float]] = []
    for _ in range(random.integers(1, 5)):
        radius = np.exp(random.uniform(np.log(0.07), np.log(0.22)))
        centre = random.uniform(radius, 1 - radius, 2)
        # Signs do not touch each other.
        if all(np.abs(centre - other).max() > radius + size for _, other, size in signs):
            signs.append((int(random.integers(len(CLASS_NAMES))), centre, radius))
    for _, (x, y), radius in signs:
        post = np.array([x - 0.07 * radius, y, x + 0.07 * radius, 1]) * canvas.width
        pen.rectangle(post.tolist(), "#777777")
    objects = []
    for label, centre, radius in signs:
        outline = _draw_sign(pen, CLASS_NAMES[label], centre * canvas.width, radius * canvas.width)
        low, high = outline.min(axis=0) / canvas.width, outline.max(axis=0) / canvas.width
        objects.append((label, np.concatenate([(low + high) / 2, high - low])))
    image = canvas.resize((SIDE, SIDE), Image.Resampling.LANCZOS)
    return _photographed(random, np.asarray(image, np.float64), fog), objects


def _background(random: np.random.Generator) -> Image.Image:
    """Bright at the top, dark at the bottom, with blotches of all colours."""
    cells = random.integers(4, 12)
    brightness = np.linspace(random.uniform(140, 220), random.uniform(60, 120), cells)
    blotches = brightness[:, None, None] + random.normal(0, 22, (cells, cells, 3))
    small = Image.fromarray(blotches.clip(0, 255).astype(np.uint8))
    return small.resize((SIDE * FINER, SIDE * FINER), Image.Resampling.BICUBIC)


def _draw_sign(
    pen: ImageDraw.ImageDraw, name: str, centre: np.ndarray, radius: float
) -> np.ndarray:
    """Draws a sign and returns the corners of its outline, `[corners, 2]` in pixels."""

    def fill(points: list | np.ndarray, color: str) -> np.ndarray:
        corners = centre + radius * np.asarray(points)
        pen.polygon([tuple(corner) for corner in corners], color)
        return corners

    if name == "yield":
        outline = fill(_polygon(3, 90), RED)
        fill(_polygon(3, 90) * 0.6, WHITE)
    elif name == "stop":
        outline = fill(_polygon(8, 22.5), RED)
        pen.text(tuple(centre), "STOP", WHITE, anchor="mm", font_size=0.64 * radius)
    else:
        outline = fill(_polygon(48, 0), RED if name == "no_entry" else BLUE)
        fill(BAR if name == "no_entry" else ARROW, WHITE)
    return outline


def _polygon(corners: int, first: float) -> np.ndarray:
    """Corners of a regular polygon on the unit circle, from an angle in degrees: `[corners, 2]`."""
    angles = np.radians(first + 360 / corners * np.arange(corners))
    return np.stack([np.cos(angles), np.sin(angles)], axis=1)


def _photographed(random: np.random.Generator, pixels: np.ndarray, fog: float) -> Image.Image:
    """Fog, a lighter or darker exposure, and noise."""
    pixels = pixels + fog * random.uniform(0.3, 0.9) * (190 - pixels)
    pixels = pixels * random.uniform(0.6, 1.1) + random.normal(0, 10, pixels.shape)
    return Image.fromarray(pixels.clip(0, 255).astype(np.uint8))
