"""The writers of formats in `tools/formats`, and pictures for them."""

import importlib
import io
import pkgutil
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

import tools.formats
from ssd_jax.data.records import Object
from tools.formats.picture import Picture

Write = Callable[[Sequence[Picture], Path], None]


def writers() -> dict[str, Write]:
    """The function `write` of every format, by the name of its module."""
    modules = [module.name for module in pkgutil.iter_modules(tools.formats.__path__)]
    found = {name: importlib.import_module(f"tools.formats.{name}") for name in modules}
    return {name: module.write for name, module in found.items() if hasattr(module, "write")}


def picture(name: str, size: tuple[int, int], *objects: Object, seed: int = 0) -> Picture:
    """A picture of noise, as PNG or JPEG after its name."""
    pixels = np.random.default_rng(seed).integers(0, 256, (*size, 3), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG" if name.endswith(".png") else "JPEG")
    return Picture(name, file.getvalue(), size, objects)
