r"""SSD300 with ResNet-50 on COCO 2017, as NVIDIA trains it.

    ssd-jax train --config=configs/ssd300_resnet50_coco.py \
        --workdir=runs/ssd300_resnet50_coco --config.init=torchvision:imagenet

Published: 25.8 to 27.4 AP on val2017 (NVIDIA), from ResNet-50's ImageNet weights.
"""

from ml_collections import ConfigDict

from configs import ssd300_coco
from configs.ssd300_coco import COCO_PICTURES

PUBLISHED = "25.8 to 27.4 AP on COCO val2017 (NVIDIA)"


def get_config() -> ConfigDict:
    """The differences from the paper's SSD300 on COCO."""
    config = ssd300_coco.get_config()
    config.init = ""
    config.steps = 65 * COCO_PICTURES // 32  # 65 epochs
    config.learning_rate = 2.6e-3
    config.base_batch_size = 32
    config.bias_rate = 1.0
    config.learning_rate_drops = (43 / 65, 54 / 65)
    config.warmup_steps = 300
    config.checkpoint_every = 5_000

    config.model.backbone = "resnet50"
    config.model.batch_norm = True
    # One entry a feature map after the backbone's.
    config.model.extra_blocks = (
        (256, 512, 3, 2, 1),
        (256, 512, 3, 2, 1),
        (128, 256, 3, 2, 1),
        (128, 256, 3, 1, 0),
        (128, 256, 3, 1, 0),
    )
    return config
