"""Every config that comes with the package, of files with rows every row."""

from ssd_jax.config.files import load_config, published, shipped_configs

# By name, like "ssd300_voc" or "ablations/table2:squares".
ALL_CONFIGS = {name: load_config(name) for name in shipped_configs()}
ALL_PUBLISHED = {name: published(name) for name in ALL_CONFIGS}
