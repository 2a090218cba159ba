r"""SSDLite with MobileNetV2 on COCO 2017, as in uvipen's SSD-pytorch.

    ssd-jax train --config=configs/ssdlite300_mobilenetv2_coco.py \
        --workdir=runs/ssdlite300_mobilenetv2_coco

Published: 22.1 AP on test-dev for SSDLite with MobileNetV2 at 320 pixels (Sandler et al. 2018).
"""

from ml_collections import ConfigDict

from configs import ssd300_resnet50_coco

PUBLISHED = "22.1 AP on COCO test-dev at 320 pixels (MobileNetV2 paper)"


def get_config() -> ConfigDict:
    """The differences from SSD300 with ResNet-50."""
    config = ssd300_resnet50_coco.get_config()
    config.model.backbone = "mobilenet_v2"
    config.model.separable = True
    config.model.linear_extras = True
    config.model.extra_blocks = (
        (256, 512, 3, 2, 1),
        (128, 256, 3, 2, 1),
        (128, 256, 3, 2, 1),
        (64, 64, 3, 2, 1),
    )
    config.model.feature_sizes = (19, 10, 5, 3, 2, 1)
    config.model.strides = (16, 32, 64, 100, 150, 300)
    config.model.min_sizes = (60, 105, 150, 195, 240, 285)
    config.model.max_sizes = (105, 150, 195, 240, 285, 330)
    config.model.aspect_ratios = ((2, 3),) * 6
    return config
