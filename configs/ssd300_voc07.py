r"""SSD300 on VOC 2007 alone, as in the paper (Table 1).

    ssd-jax train --config=configs/ssd300_voc07.py --workdir=runs/ssd300_voc07

Published: 68.0 mAP on VOC2007 test, without expansion, from VGG16's ImageNet weights.
"""

from ml_collections import ConfigDict

from configs import ssd300_voc

PUBLISHED = "68.0 mAP on VOC2007 test (paper, table 1)"


def get_config() -> ConfigDict:
    """The differences from SSD300 on VOC 2007 + 2012."""
    config = before_expansion(ssd300_voc.get_config())
    config.data.train = "tfds:voc/2007:train+validation"
    return config


def before_expansion(config: ConfigDict) -> ConfigDict:
    """A config of VOC as in the paper before expansion: without it, and with half of the steps."""
    config.augment.expand_probability = 0.0
    config.steps = 60_000
    config.learning_rate_drops = (2 / 3, 5 / 6)  # 40k, 50k
    return config
