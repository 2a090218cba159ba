"""All writers of formats."""

import importlib
import pkgutil
from collections.abc import Callable, Sequence
from pathlib import Path

import tools.formats
from tools.formats.picture import Picture

Write = Callable[[Sequence[Picture], Path], None]


def writers() -> dict[str, Write]:
    """The function `write` of every other module of this folder, by the name of the module."""
    modules = [module.name for module in pkgutil.iter_modules(tools.formats.__path__)]
    found = {name: importlib.import_module(f"tools.formats.{name}") for name in modules}
    return {name: module.write for name, module in found.items() if hasattr(module, "write")}
