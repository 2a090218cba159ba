"""A small SSD on the embedded shapes: trains in a few minutes on two CPU cores.

    ssd-jax train --config=configs/quickstart.py --workdir=runs/quickstart

Expected: mAP above 0.80 on shapes:test.
"""

from ml_collections import ConfigDict

from configs import ssd_small


def get_config() -> ConfigDict:
    """The differences from the small SSD."""
    config = ssd_small.get_config()
    config.batch_size = 16
    config.steps = 1000
    config.eval_every = 500
    config.learning_rate = 4e-3
    config.learning_rate_drops = (0.75, 0.92)
    config.data.train = "shapes:train"
    config.data.eval = "shapes:test"
    config.data.max_objects = 12
    # The images have all colours and sizes already: augmentation would only slow the training down.
    config.augment.expand_probability = 0.0
    config.augment.crop = False

    config.model.image_size = 96
    config.model.width = 0.1875  # three quarters of the channels, for half of the time
    config.model.extra_blocks = ((256, 512, 3, 2, 1), (128, 256, 3, 2, 1), (128, 256, 3, 2, 1))
    config.model.feature_sizes = (12, 6, 3, 2, 1)
    config.model.strides = (8, 16, 32, 48, 96)
    config.model.min_sizes = (12, 22, 40, 60, 80)
    config.model.max_sizes = (22, 40, 60, 80, 100)
    config.model.aspect_ratios = ((2,), (2,), (2,), (2,), (2,))
    return config
