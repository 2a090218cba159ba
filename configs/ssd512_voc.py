r"""SSD512 on VOC 2007 + 2012, as in the paper (Table 1; expansion from section 3.6).

    ssd-jax train --config=configs/ssd512_voc.py --workdir=runs/ssd512_voc

Published: 79.8 mAP on VOC2007 test, from VGG16's ImageNet weights.
"""

from ml_collections import ConfigDict

from configs import ssd300_voc

PUBLISHED = "79.8 mAP on VOC2007 test (paper, table 6)"


def get_config() -> ConfigDict:
    """The differences from the paper's SSD300."""
    config = ssd300_voc.get_config()
    config.model.image_size = 512
    config.model.extra_blocks = (
        (256, 512, 3, 2, 1),
        (128, 256, 3, 2, 1),
        (128, 256, 3, 2, 1),
        (128, 256, 3, 2, 1),
        (128, 256, 4, 1, 1),
    )
    config.model.feature_sizes = (64, 32, 16, 8, 4, 2, 1)
    config.model.strides = (8, 16, 32, 64, 128, 256, 512)
    config.model.min_sizes = (35.84, 76.8, 153.6, 230.4, 307.2, 384.0, 460.8)
    config.model.max_sizes = (76.8, 153.6, 230.4, 307.2, 384.0, 460.8, 537.6)
    config.model.aspect_ratios = ((2,), (2, 3), (2, 3), (2, 3), (2, 3), (2,), (2,))
    return config
