r"""SSD512 on COCO, as in the paper (Table 5; expansion from section 3.6).

    ssd-jax train --config=configs/ssd512_coco.py --workdir=runs/ssd512_coco

Published: 28.8 AP on test-dev2015, from VGG16's ImageNet weights.
"""

from ml_collections import ConfigDict

from configs import ssd300_coco, ssd512_voc

PUBLISHED = "28.8 AP on COCO test-dev2015 (paper, table 6)"


def get_config() -> ConfigDict:
    """The differences from SSD512 on VOC."""
    sizes = (20.48, 51.2, 133.12, 215.04, 296.96, 378.88, 460.8, 542.72)
    config = ssd300_coco.on_coco(ssd512_voc.get_config(), sizes)
    return config
