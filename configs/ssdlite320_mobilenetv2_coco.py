r"""SSDLite with MobileNetV2 at 320 pixels on COCO 2017, as in MMDetection.

    ssd-jax train --config=configs/ssdlite320_mobilenetv2_coco.py \
        --workdir=runs/ssdlite320_mobilenetv2_coco

Published: 21.3 AP on val2017 (MMDetection), from scratch.
"""

from ml_collections import ConfigDict

from configs import ssd300_coco
from configs.ssd300_coco import COCO_PICTURES

PUBLISHED = "21.3 AP on COCO val2017 (MMDetection)"


def get_config() -> ConfigDict:
    """The differences from the paper's SSD300 on COCO."""
    config = ssd300_coco.get_config()
    config.init = ""
    config.batch_size = 192
    config.steps = 120 * 5 * COCO_PICTURES // 192  # 120 epochs, each of five passes
    config.learning_rate = 0.015
    config.base_batch_size = 192
    config.bias_rate = 1.0
    config.schedule = "cosine"
    config.weight_decay = 4e-5
    config.no_weight_decay = ""

    config.model.image_size = 320
    config.model.backbone = "mobilenet_v2_narrow"
    config.model.batch_norm = True
    config.model.separable = True
    config.model.extra_blocks = (
        (256, 512, 3, 2, 1),
        (128, 256, 3, 2, 1),
        (128, 256, 3, 2, 1),
        (64, 128, 3, 2, 1),
    )
    config.model.feature_sizes = (20, 10, 5, 3, 2, 1)
    config.model.strides = (16, 32, 64, 107, 160, 320)
    config.model.min_sizes = (48, 100, 150, 202, 253, 304)
    config.model.max_sizes = (100, 150, 202, 253, 304, 320)
    config.model.aspect_ratios = ((2, 3),) * 6

    config.detection.score_threshold = 0.02
    config.detection.boxes_per_class = 1000
    return config
