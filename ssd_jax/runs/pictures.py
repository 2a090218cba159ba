"""Pictures of a run: training images as sent to the device, and detections."""

import itertools
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ssd_jax.data.records import caption_name
from ssd_jax.errors import counted
from ssd_jax.images.contact_sheet import Picture, contact_sheet
from ssd_jax.images.drawing import draw_input
from ssd_jax.storage.replacing import replacing
from ssd_jax.training.hooks import Hooks

NUM_PICTURES = 12
INPUTS = "training images as sent to the device, with their objects"


def draw_training_images(
    batch: dict[str, np.ndarray], class_names: Sequence[str], most: int = NUM_PICTURES
) -> list[Picture]:
    """The first images of a batch with their boxes, as sent to the device."""
    inputs = zip(batch["image"], batch["boxes"], batch["labels"], image_names(batch), strict=True)
    return [
        Picture(
            draw_input(pixels, boxes, labels, class_names),
            f"{name}\n{counted(int(np.sum(labels > 0)), 'object')}",
        )
        for pixels, boxes, labels, name in itertools.islice(inputs, most)
    ]


def image_names(batch: dict[str, np.ndarray]) -> list[str]:
    """The names of the images of a batch in captions and messages."""
    return [
        caption_name(os.fsdecode(file), os.fsdecode(name))
        for file, name in zip(batch["file"].tolist(), batch["image_id"].tolist(), strict=True)
    ]


def save_pictures(
    folder: Path, name: str, pictures: Sequence[Picture], hooks: Hooks, step: int, about: str
) -> None:
    """Writes `pictures/NAME.png` with all pictures, and `pictures/NAME_00.png`, … with one each.

    The sheet has captions below its pictures, and the step and `about` above them.
    """
    (folder / "pictures").mkdir(exist_ok=True)
    sheet = contact_sheet(pictures, title=f"step {step}: {about}")
    files = {f"{name}.png": sheet}
    files |= {f"{name}_{i:02d}.png": picture.image for i, picture in enumerate(pictures)}
    for file, image in files.items():
        with replacing(folder / "pictures" / file, survives_power_loss=False) as unfinished:
            image.save(unfinished, compress_level=1)  # files a third larger, in a fifth of the time
    hooks.image(step, name, np.asarray(sheet))
