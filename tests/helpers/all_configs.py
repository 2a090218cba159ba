"""Every config of the package; every row of files with rows."""

from ssd_jax.config.files import load_config, published, shipped_configs

# By name, like "ssd300_voc" or "ablations/table2:squares".
ALL_CONFIGS = {name: load_config(name) for name in shipped_configs()}
ALL_PUBLISHED = {name: published(name) for name in ALL_CONFIGS}
