r"""SSD300 on COCO, as in the paper (Table 5; expansion from section 3.6).

    ssd-jax train --config=configs/ssd300_coco.py --workdir=runs/ssd300_coco

Published: 25.1 AP on test-dev2015, from VGG16's ImageNet weights. The paper's trainval35k is the
training set of COCO 2017, its minival the validation set.
"""

from ml_collections import ConfigDict

from configs import ssd300_voc

PUBLISHED = "25.1 AP on COCO test-dev2015 (paper, table 6)"

COCO_PICTURES = 117_266  # of the training set of 2017, with objects


def get_config() -> ConfigDict:
    """The differences from SSD300 on VOC."""
    return on_coco(ssd300_voc.get_config(), (21, 45, 99, 153, 207, 261, 315))


def on_coco(config: ConfigDict, sizes: tuple[float, ...]) -> ConfigDict:
    """A config of VOC with the data, the schedule and the smaller default boxes of COCO.

    Args:
      config: the config to change.
      sizes: sides in pixels of the small squares of each feature map, then of the last large one.
    """
    config.metric = "coco"
    config.steps = 400_000
    config.learning_rate_drops = (0.7, 0.9)  # 280k, 360k
    config.checkpoint_every = 10_000
    config.data.train = "tfds:coco/2017:train"
    config.data.eval = "tfds:coco/2017:validation"
    config.data.max_objects = 100
    config.model.min_sizes = sizes[:-1]
    config.model.max_sizes = sizes[1:]
    return config
