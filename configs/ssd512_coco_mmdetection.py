r"""SSD512 on COCO 2017 with MMDetection's schedule.

    ssd-jax train --config=configs/ssd512_coco_mmdetection.py \
        --workdir=runs/ssd512_coco_mmdetection

Published: 29.5 AP on val2017 (MMDetection), from VGG16's ImageNet weights.
Matching and crops are the paper's.
"""

from ml_collections import ConfigDict

from configs import ssd300_coco_mmdetection, ssd512_coco

PUBLISHED = "29.5 AP on COCO val2017 (MMDetection)"


def get_config() -> ConfigDict:
    """The differences from the paper's SSD512 on COCO."""
    config = ssd300_coco_mmdetection.with_schedule(ssd512_coco.get_config())
    return config
