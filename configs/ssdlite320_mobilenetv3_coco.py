r"""SSDLite with MobileNetV3-Large at 320 pixels on COCO 2017, as in torchvision.

    ssd-jax train --config=configs/ssdlite320_mobilenetv3_coco.py \
        --workdir=runs/ssdlite320_mobilenetv3_coco

Published: 21.3 AP on val2017 (torchvision), from scratch. `--config.init=torchvision:coco` starts
from torchvision's detector. `--config.init=torchvision:imagenet` starts from its backbone for
ImageNet, whose last layers have twice as many channels: the last two blocks start from random
weights.
"""

from ml_collections import ConfigDict

from configs import ssdlite320_mobilenetv2_coco
from configs.ssd300_coco import COCO_PICTURES

PUBLISHED = "21.3 AP on COCO val2017 (torchvision)"


def get_config() -> ConfigDict:
    """The differences from SSDLite with MobileNetV2."""
    config = ssdlite320_mobilenetv2_coco.get_config()
    config.steps = 660 * COCO_PICTURES // 192  # 660 epochs
    config.learning_rate = 0.15
    # As in torchvision: only crops and mirrored images.
    config.augment.color = False
    config.augment.expand_probability = 0.0

    config.model.backbone = "mobilenet_v3"
    config.model.strides = (16, 32, 64, 320 / 3, 160, 320)
    config.model.min_sizes = (64, 112, 160, 208, 256, 304)  # 0.2 to 0.95 of the image
    config.model.max_sizes = (112, 160, 208, 256, 304, 320)
    config.model.clip = True

    config.detection.score_threshold = 0.001
    config.detection.nms_iou_threshold = 0.55
    config.detection.boxes_per_class = 300
    config.detection.detections_per_image = 300
    return config
