r"""SSD300 on COCO 2017 with MMDetection's schedule.

    ssd-jax train --config=configs/ssd300_coco_mmdetection.py \
        --workdir=runs/ssd300_coco_mmdetection

Published: 25.5 AP on val2017 (MMDetection), from VGG16's ImageNet weights.
Matching and crops are the paper's.
"""

from ml_collections import ConfigDict

from configs import ssd300_coco
from configs.ssd300_coco import COCO_PICTURES

PUBLISHED = "25.5 AP on COCO val2017 (MMDetection)"


def get_config() -> ConfigDict:
    """The differences from the paper's SSD300 on COCO."""
    config = with_schedule(ssd300_coco.get_config())
    return config


def with_schedule(config: ConfigDict) -> ConfigDict:
    """A config of COCO with MMDetection's schedule."""
    config.model.backbone = "vgg16_mmdetection"
    config.batch_size = 64
    config.steps = 24 * 5 * COCO_PICTURES // 64  # 24 epochs, each of five passes
    config.learning_rate = 2e-3
    config.base_batch_size = 64
    config.learning_rate_drops = (16 / 24, 22 / 24)
    config.bias_rate = 1.0
    config.no_weight_decay = ""
    config.detection.score_threshold = 0.02
    config.detection.boxes_per_class = 1000
    return config
