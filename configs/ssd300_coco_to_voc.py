r"""SSD300 on VOC 2007 + 2012, starting from COCO ("07+12+COCO"), as in the paper (Table 6).

    ssd-jax train --config=configs/ssd300_coco_to_voc.py --workdir=runs/ssd300_coco_to_voc

Published: 81.2 mAP on VOC2007 test (79.6 without expansion, Table 1). COCO has all
classes of VOC: the classifiers start from the weights of these. The paper names no schedule for
this; the config uses that of VOC.
"""

from ml_collections import ConfigDict

from configs import ssd300_voc

PUBLISHED = "81.2 mAP on VOC2007 test (paper, table 6)"


def get_config() -> ConfigDict:
    """The differences from SSD300 on VOC 2007 + 2012."""
    config = ssd300_voc.get_config()
    config.init = "run:runs/ssd300_coco"
    return config
