"""`tiny.py` with two feature maps instead of four: its programs compile a quarter faster."""

from ml_collections import ConfigDict

from tests import tiny


def get_config() -> ConfigDict:
    config = tiny.get_config()
    config.model.extra_blocks = ()
    config.model.feature_sizes = (8, 4)
    config.model.strides = (8, 16)
    config.model.min_sizes = (8, 16)
    config.model.max_sizes = (16, 28)
    config.model.aspect_ratios = ((2,), (2,))
    return config
