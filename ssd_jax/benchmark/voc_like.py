"""Generates images like those of Pascal VOC, for benchmarks."""

from pathlib import Path

import numpy as np
from PIL import Image

VOC_SIZE = (375, 500)  # (height, width) of most images
VOC_OBJECTS = 2.4  # per image


def write_voc_like(folder: Path, count: int = 256) -> str:
    """Writes a data set with images as large as those of Pascal VOC: 500 × 375, about 90 KB each.

    Returns:
      Its source for `open_dataset`.
    """
    random = np.random.default_rng(0)
    for name in ("Annotations", "JPEGImages", "ImageSets/Main"):
        (folder / name).mkdir(parents=True)
    names = [f"{number:06d}" for number in range(count)]
    (folder / "ImageSets/Main/train.txt").write_text("\n".join(names))
    height, width = VOC_SIZE
    for name in names:
        # Noise at several scales, stronger at coarser ones, as in photographs.
        image = np.full((height, width, 3), 128.0, np.float32)
        for cells, strength in ((6, 80), (20, 45), (60, 30), (250, 25)):
            noise = random.normal(0, strength, (3, cells * 3 // 4, cells)).astype(np.float32)
            for channel in range(3):
                blotches = Image.fromarray(noise[channel]).resize(
                    (width, height), Image.Resampling.BICUBIC
                )
                image[..., channel] += np.asarray(blotches)
        image = np.clip(image, 0, 255).astype(np.uint8)
        Image.fromarray(image).save(folder / f"JPEGImages/{name}.jpg", quality=90)
        objects = ""
        for _ in range(1 + random.poisson(VOC_OBJECTS - 1)):
            corner = random.integers(1, [width * 2 // 3, height * 2 // 3])
            other = corner + random.integers(20, [width // 3, height // 3])
            box = zip(("xmin", "ymin", "xmax", "ymax"), (*corner, *other), strict=True)
            tags = "".join(f"<{tag}>{value}</{tag}>" for tag, value in box)
            objects += f"<object><name>thing</name><bndbox>{tags}</bndbox></object>"
        size = f"<size><width>{width}</width><height>{height}</height></size>"
        (folder / f"Annotations/{name}.xml").write_text(f"<annotation>{size}{objects}</annotation>")
    return f"voc_xml:{folder}:train"
