"""The tilings of the paper, made from the authors' formula."""

import math

from ssd_jax.detection.default_boxes import Tiling, shapes_from_sizes

# Cells a side and pixels between cells of each feature map, and its aspect ratios.
LAYERS = {
    300: (
        (38, 19, 10, 5, 3, 1),
        (8, 16, 32, 64, 100, 300),
        ((2,), (2, 3), (2, 3), (2, 3), (2,), (2,)),
    ),
    512: (
        (64, 32, 16, 8, 4, 2, 1),
        (8, 16, 32, 64, 128, 256, 512),
        ((2,), (2, 3), (2, 3), (2, 3), (2, 3), (2,), (2,)),
    ),
}
# Image size; percentages of the first map, of the second, and what the last would come to.
PERCENTAGES = {
    "ssd300_voc": (300, 10, 20, 90),
    "ssd300_coco": (300, 7, 15, 90),
    "ssd512_voc": (512, 7, 15, 90),
    "ssd512_coco": (512, 4, 10, 90),
}


def sizes(name: str) -> tuple[float, ...]:
    """The sizes of default boxes as in Caffe's `ssd_pascal.py`: percentages in equal steps.

    The first feature map has a separate percentage. The others begin at the lowest one; the step is
    the difference to the highest one, divided by their number minus one and rounded down.
    """
    image_size, first, lowest, highest = PERCENTAGES[name]
    count = len(LAYERS[image_size][0])
    step = math.floor((highest - lowest) / (count - 2))
    percentages = [first, *(lowest + i * step for i in range(count))]
    return tuple(image_size * percentage / 100 for percentage in percentages)


def tiling(name: str, whole_pixels: bool = True, clip: bool = False) -> Tiling:
    """The tiling of one of the systems above."""
    image_size = PERCENTAGES[name][0]
    feature_sizes, steps, aspect_ratios = LAYERS[image_size]
    found = sizes(name)
    shapes = shapes_from_sizes(found[:-1], found[1:], aspect_ratios, whole_pixels)
    return Tiling(image_size, feature_sizes, steps, shapes, clip)


SSD300_VOC = tiling("ssd300_voc")
