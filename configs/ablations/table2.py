r"""Table 2 of the paper: the effect of augmentation, default box shapes and atrous on SSD300.

    ssd-jax train --config=configs/ablations/table2.py:no_atrous --workdir=runs/no_atrous

or all of them, into one table:

    ssd-jax sweep --configs=configs/ablations/table2.py --workdir=runs/table2

Published: mAP on VOC2007 test of

    row         augmentation  {1/2, 2} boxes  {1/3, 3} boxes  atrous   mAP
    flip_only   flip alone    yes             yes             yes     65.5
    squares     all           no              no              yes     71.6
    no_thirds   all           yes             no              yes     73.7
    no_atrous   all           yes             yes             no      74.2
    complete    all           yes             yes             yes     74.3

"All" means crops, colours and flip; expansion came later (table 6). Without atrous VGG16 stays
whole and predicts from conv5_3 as well.
"""

from ml_collections import ConfigDict

from configs import ssd300_voc, ssd300_voc07

PUBLISHED = "mAP on VOC2007 test (paper, table 2)"

ROWS = {"flip_only": 65.5, "squares": 71.6, "no_thirds": 73.7, "no_atrous": 74.2, "complete": 74.3}


def get_config(row: str = "complete") -> ConfigDict:
    """One row of the table: the differences from SSD300 on VOC 2007 + 2012.

    Raises:
      ValueError: the table has no such row.
    """
    if row not in ROWS:
        raise ValueError(f"table 2 has no row {row!r}: its rows are {', '.join(ROWS)}")
    config = ssd300_voc07.before_expansion(ssd300_voc.get_config())
    if row == "flip_only":
        config.augment.crop = False
        config.augment.color = False
    elif row == "squares":
        config.model.aspect_ratios = ((),) * 6
    elif row == "no_thirds":
        config.model.aspect_ratios = ((2,),) * 6
    elif row == "no_atrous":
        config.model.backbone = "vgg16_whole"
        # conv5_3 has the 19 × 19 cells of the map that fc7 has otherwise, and fc7 10 × 10.
        config.model.extra_blocks = (
            (256, 512, 3, 2, 1),
            (128, 256, 3, 1, 0),
            (128, 256, 3, 1, 0),
        )
    return config
