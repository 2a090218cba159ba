r"""A small SSD for your own images on a small machine, trained from scratch.

    ssd-jax train --config=configs/ssd_small.py --workdir=runs/mine --config.data.train=FOLDER

A quarter of VGG16's channels with batch norm, 256 pixels, six feature maps, and about two million
parameters.
"""

from ml_collections import ConfigDict

from configs import ssd300_voc


def get_config() -> ConfigDict:
    """The differences from the paper's SSD300."""
    config = ssd300_voc.get_config()
    config.init = ""
    config.batch_size = 8
    config.steps = 600
    config.log_every = 20
    config.checkpoint_every = 100
    config.optimizer = "adam"  # from scratch it needs far fewer steps
    config.learning_rate = 1.5e-3
    config.learning_rate_drops = (0.7, 0.9)
    config.warmup_steps = 20

    config.data.train = ""  # required
    config.data.eval = ""

    # In a short training these cost more than they gain.
    config.augment.color = False
    config.augment.expand_max_ratio = 2.0

    config.model.image_size = 256
    config.model.width = 0.25
    config.model.batch_norm = True
    config.model.extra_blocks = (
        (256, 512, 3, 2, 1),
        (128, 256, 3, 2, 1),
        (128, 256, 3, 2, 1),
        (128, 256, 3, 2, 1),
    )
    config.model.feature_sizes = (32, 16, 8, 4, 2, 1)
    config.model.strides = (8, 16, 32, 64, 128, 256)
    config.model.min_sizes = (18, 38, 84, 130, 176, 222)  # 0.07, 0.15, … 0.87 of the image
    config.model.max_sizes = (38, 84, 130, 176, 222, 268)
    config.model.aspect_ratios = ((2,), (2, 3), (2, 3), (2, 3), (2,), (2,))
    return config
