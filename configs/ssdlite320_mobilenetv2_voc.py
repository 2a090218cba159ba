r"""SSDLite with MobileNetV2 at 320 pixels on VOC 2007 + 2012.

    ssd-jax train --config=configs/ssdlite320_mobilenetv2_voc.py \
        --workdir=runs/ssdlite320_mobilenetv2_voc

Published: no result for this network. It starts from a run on COCO; from ImageNet
alone with `--config.init=torchvision:imagenet`.
"""

from ml_collections import ConfigDict

from configs import ssd300_voc, ssdlite320_mobilenetv2_coco


def get_config() -> ConfigDict:
    """The network of COCO, the data and the schedule of the paper's SSD300 on VOC."""
    config = ssd300_voc.get_config()
    config.init = "run:runs/ssdlite320_mobilenetv2_coco"
    lite = ssdlite320_mobilenetv2_coco.get_config()
    config.model = lite.model
    config.detection = lite.detection
    config.schedule = "cosine"
    config.bias_rate = lite.bias_rate
    config.weight_decay = lite.weight_decay
    config.no_weight_decay = lite.no_weight_decay
    return config
