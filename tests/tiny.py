"""A config that trains in seconds: the smallest SSD for the pipeline and the loop."""

from ml_collections import ConfigDict

from configs import quickstart, ssd300_voc


def get_config() -> ConfigDict:
    config = quickstart.get_config()
    config.batch_size = 4
    config.augment = ssd300_voc.get_config().augment
    config.steps = 4
    config.log_every = 2
    config.checkpoint_every = 2
    config.eval_every = -1
    config.report = False
    config.loggers = ""  # their pictures are compressed a second time
    config.warmup_steps = 2
    config.data.train = "shapes:test[:12]"
    config.data.eval = "shapes:test[:6]"
    config.data.max_objects = 2  # too few for some pictures
    config.model.image_size = 64
    config.model.width = 0.02  # 8 channels in every layer
    config.model.extra_blocks = ((256, 512, 3, 2, 1), (128, 256, 3, 2, 1))
    config.model.feature_sizes = (8, 4, 2, 1)
    config.model.strides = (8, 16, 32, 64)
    config.model.min_sizes = (8, 16, 28, 40)
    config.model.max_sizes = (16, 28, 40, 52)
    config.model.aspect_ratios = ((2,), (2,), (2,), (2,))
    return config
