r"""SSD300 for VOC 2012's test set ("07++12"), as in the paper (Table 6).

    ssd-jax train --config=configs/ssd300_voc0712_test12.py \
        --workdir=runs/ssd300_voc0712_test12

Published: 75.8 mAP on VOC2012 test, from VGG16's ImageNet weights. The objects
of that test set are not public: its server evaluates, and this config does not.
"""

from ml_collections import ConfigDict

from configs import ssd300_voc

PUBLISHED = "75.8 mAP on VOC2012 test (paper, table 6)"


def get_config() -> ConfigDict:
    """The differences from SSD300 on VOC 2007 + 2012."""
    config = ssd300_voc.get_config()
    config.metric = "voc"
    config.steps = 160_000
    config.learning_rate_drops = (3 / 4,)  # 120k
    config.eval_every = -1
    config.data.train = (
        "tfds:voc/2007:train+validation,tfds:voc/2007:test,tfds:voc/2012:train+validation"
    )
    config.data.eval = "tfds:voc/2012:test"
    return config
