"""Every config of the project, and of files with rows every row."""

import importlib
import pkgutil
from collections.abc import Callable

from ml_collections import ConfigDict

import configs
from ssd_jax.config.files import published


def _all_published() -> dict[str, str]:
    """What was published for each config."""
    return {
        name: published(f"configs/{file.replace('.', '/')}.py{colon}{row}")
        for name in ALL_CONFIGS
        for file, colon, row in [name.partition(":")]
    }


def _all_configs() -> dict[str, Callable[[], ConfigDict]]:
    found = {}
    for module in pkgutil.walk_packages(configs.__path__, "configs."):
        if module.ispkg:
            continue
        content = importlib.import_module(module.name)
        name = module.name.removeprefix("configs.")
        if not hasattr(content, "ROWS"):
            found[name] = content.get_config
        for row in getattr(content, "ROWS", ()):
            found[f"{name}:{row}"] = lambda content=content, row=row: content.get_config(row)
    return found


# By name, like "ssd300_voc" or "ablations.table2:squares".
ALL_CONFIGS = _all_configs()
ALL_PUBLISHED = _all_published()
