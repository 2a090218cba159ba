"""Pictures of a run: training images as they go to the device, and detections."""

import itertools
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from ssd_jax.images.drawing import contact_sheet, draw_input
from ssd_jax.storage.replacing import replacing
from ssd_jax.training.metrics_writer import MetricsWriter

NUM_PICTURES = 12


def draw_training_images(
    batch: dict[str, np.ndarray], class_names: Sequence[str]
) -> list[Image.Image]:
    """The first images of a batch with their boxes, as they go to the device."""
    inputs = zip(batch["image"], batch["boxes"], batch["labels"], strict=True)
    return [draw_input(*given, class_names) for given in itertools.islice(inputs, NUM_PICTURES)]


def save_pictures(
    folder: Path, name: str, pictures: Sequence[Image.Image], writer: MetricsWriter, step: int
) -> None:
    """Writes `pictures/NAME.png` with all of them, and `pictures/NAME_00.png`, … one by one."""
    (folder / "pictures").mkdir(exist_ok=True)
    sheet = contact_sheet(pictures)
    files = {f"{name}.png": sheet}
    files |= {f"{name}_{i:02d}.png": picture for i, picture in enumerate(pictures)}
    for file, image in files.items():
        with replacing(folder / "pictures" / file, survives_power_loss=False) as unfinished:
            image.save(unfinished, compress_level=1)  # a third larger, in a fifth of the time
    writer.image(step, name, np.asarray(sheet))
