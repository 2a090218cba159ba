r"""SSD300 on VOC 2007 + 2012, starting from COCO ("07+12+COCO"), as in the paper (Table 6).

    python train.py --config=configs/ssd300_coco_to_voc.py --workdir=runs/ssd300_coco_to_voc \
        --config.init=run:runs/ssd300_coco

Published: 81.2 mAP on VOC2007 test (79.6 without expansion, Table 1). All of VOC's classes are in
COCO's list: the classifiers start from their rows.
"""

from ml_collections import ConfigDict

from configs import ssd300_voc


def get_config() -> ConfigDict:
    """What differs from SSD300 on VOC 2007 + 2012."""
    return from_coco(ssd300_voc.get_config(), "81.2 mAP on VOC2007 test (paper, table 6)")


def from_coco(config: ConfigDict, published: str) -> ConfigDict:
    """A config of VOC for a start from a run on COCO. The paper names no schedule for it."""
    config.published = published
    config.warmup_steps = 0
    return config
