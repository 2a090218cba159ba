"""Pictures of noise, for the writers of formats."""

import io

import numpy as np
from PIL import Image

from ssd_jax.data.records import Object
from tools.formats.picture import Picture


def picture(name: str, size: tuple[int, int], *objects: Object, seed: int = 0) -> Picture:
    """A picture of noise, as PNG or JPEG by its name."""
    pixels = np.random.default_rng(seed).integers(0, 256, (*size, 3), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG" if name.endswith(".png") else "JPEG")
    return Picture(name, file.getvalue(), size, objects)
