r"""SSD300 on COCO 2017 with torchvision's default boxes and schedule.

    ssd-jax train --config=configs/ssd300_coco_torchvision.py \
        --workdir=runs/ssd300_coco_torchvision

Published: 25.1 AP on val2017 (torchvision), from VGG16's ImageNet weights without fc6 and fc7.
`--config.init=torchvision:coco` starts from torchvision's detector. Matching and crops are the
paper's.
"""

from ml_collections import ConfigDict

from configs import ssd300_coco
from configs.ssd300_coco import COCO_PICTURES
from ssd_jax.detection.default_boxes import shapes_from_sizes

PUBLISHED = "25.1 AP on COCO val2017 (torchvision)"


def get_config() -> ConfigDict:
    """The differences from the paper's SSD300 on COCO."""
    config = ssd300_coco.get_config()
    config.init = "torchvision:imagenet"
    config.steps = 120 * COCO_PICTURES // 32  # 120 epochs
    config.learning_rate = 2e-3
    config.base_batch_size = 32
    config.learning_rate_drops = (80 / 120, 110 / 120)
    config.bias_rate = 1.0
    config.no_weight_decay = ""

    # No box is longer than the image.
    model = config.model
    shapes = shapes_from_sizes(model.min_sizes, model.max_sizes, model.aspect_ratios)
    config.model.shapes = tuple(
        tuple((min(width, 300), min(height, 300)) for width, height in boxes) for boxes in shapes
    )
    return config
