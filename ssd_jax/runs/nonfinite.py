"""Saves a batch whose loss or gradient was not finite, for inspection."""

import os
from pathlib import Path
from typing import Any

import numpy as np

from ssd_jax.errors import first_names
from ssd_jax.images.contact_sheet import contact_sheet
from ssd_jax.runs.pictures import draw_training_images, image_names
from ssd_jax.storage.files import write_json

NUM_PICTURES = 64
NUM_NAMES = 8


def save_batch(
    folder: Path,
    batch: dict[str, np.ndarray],
    numbers: dict[str, Any],
    class_names: tuple[str, ...],
) -> str:
    """Writes a batch with the numbers of its step.

    Args:
      folder: the work directory; `nonfinite/STEP` is made in it, with `batch.npz`, `numbers.json`
        and `pictures.png`.
      batch: the batch of all processes, as sent to the devices, before augmentation on the device.
      numbers: `step`, and the other content of `numbers.json`.
      class_names: in the order of the labels.

    Returns:
      A description of its content and place.
    """
    place = folder / "nonfinite" / str(numbers["step"])
    place.mkdir(parents=True, exist_ok=True)
    names = [os.fsdecode(name) for name in batch["image_id"]]
    files = [os.fsdecode(file) for file in batch["file"]]
    # JSON has no numbers that are not finite.
    written = {key: value if np.isfinite(value) else str(value) for key, value in numbers.items()}
    written |= {"image_id": names, "file": files}
    write_json(place / "numbers.json", written)
    # Numbers only: strings would be pickles, which are unsafe to load.
    numeric: dict[str, Any] = {key: array for key, array in batch.items() if array.dtype != object}
    np.savez_compressed(place / "batch.npz", **numeric)
    pictures = draw_training_images(batch, class_names, NUM_PICTURES)
    contact_sheet(pictures).save(place / "pictures.png")
    return f"its batch ({first_names(image_names(batch), NUM_NAMES)}) is in {place}"
