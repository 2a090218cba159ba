"""Folders in the user's cache folder, for files that can be created or downloaded again."""

import os
from pathlib import Path


def cache_folder(name: str) -> Path:
    """A folder of this package in `$XDG_CACHE_HOME` or `~/.cache`, created if it does not exist.

    Raises:
      OSError: it cannot be created.
      RuntimeError: the variable is not set, and this user has no home.
    """
    caches = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    folder = Path(caches, "ssd_jax", name)
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    return folder
