"""A small SSD on the embedded shapes: trains in a few minutes on a CPU of two cores.

    python train.py --config=configs/quickstart.py --workdir=runs/quickstart

Expected: mAP above 0.80 on shapes:test.
"""

from ml_collections import ConfigDict

from configs import ssd300_voc


def get_config() -> ConfigDict:
    """What differs from the paper's SSD300."""
    config = ssd300_voc.get_config()
    config.steps = 300
    config.log_every = 10
    config.checkpoint_every = 100
    config.eval_every = 0
    config.learning_rate = 2e-2  # batch norm bears it
    config.learning_rate_drops = (0.8, 0.95)
    config.warmup_steps = 20

    config.data.train = "shapes:train"
    config.data.eval = "shapes:test"
    config.data.max_objects = 8
    config.augment.expand_max_ratio = 2.0  # 4 would leave shapes of a few pixels

    config.model.image_size = 128
    config.model.width = 0.25
    config.model.batch_norm = True
    config.model.extra_blocks = ((256, 512, 3, 2, 1), (128, 256, 3, 2, 1), (128, 256, 3, 2, 1))
    config.model.feature_sizes = (16, 8, 4, 2, 1)
    config.model.steps = (8, 16, 32, 64, 128)
    config.model.min_sizes = (13, 26, 48, 70, 92)
    config.model.max_sizes = (26, 48, 70, 92, 114)
    config.model.aspect_ratios = ((2,), (2,), (2,), (2,), (2,))
    return config
