"""The tilings of the paper, made from the authors' formula."""

import math

from ssd_jax.detection.default_boxes import Tiling

SSD300 = dict(
    feature_sizes=(38, 19, 10, 5, 3, 1),
    steps=(8, 16, 32, 64, 100, 300),
    aspect_ratios=((2,), (2, 3), (2, 3), (2, 3), (2,), (2,)),
)
SSD512 = dict(
    feature_sizes=(64, 32, 16, 8, 4, 2, 1),
    steps=(8, 16, 32, 64, 128, 256, 512),
    aspect_ratios=((2,), (2, 3), (2, 3), (2, 3), (2, 3), (2,), (2,)),
)


def tiling(image_size: int, first: int, lowest: int, highest: int, layers: dict) -> Tiling:
    """As Caffe's `ssd_pascal.py` finds the sizes: percentages of the image in equal steps.

    The first feature map has a size of its own; the others begin at `lowest`, and a step is what
    would bring the last one to `highest`, rounded down.
    """
    count = len(layers["feature_sizes"])
    step = math.floor((highest - lowest) / (count - 2))
    percentages = [first, *(lowest + i * step for i in range(count))]
    sizes = [image_size * percentage / 100 for percentage in percentages]
    return Tiling(
        image_size=image_size, min_sizes=tuple(sizes[:-1]), max_sizes=tuple(sizes[1:]), **layers
    )


SSD300_VOC = tiling(300, 10, 20, 90, SSD300)
SSD300_COCO = tiling(300, 7, 15, 90, SSD300)
SSD512_VOC = tiling(512, 7, 15, 90, SSD512)
SSD512_COCO = tiling(512, 4, 10, 90, SSD512)
