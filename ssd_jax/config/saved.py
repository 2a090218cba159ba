"""The format of saved configs, and the upgrade of configs that older versions saved."""

import copy
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ssd_jax.config.schema import RENAMED
from ssd_jax.errors import UserError, shown

# Increased when older versions can no longer read the files of newer ones. Format 1 had other names
# for some fields, and one field that was removed.
FORMAT = 2
REMOVED = ("published",)


def check_format(number: object, folder: Path) -> None:
    """Raises a `UserError` if a folder was written in a format that this version cannot read."""
    if type(number) is not int or number not in range(1, FORMAT + 1):
        newer = type(number) is int and number > FORMAT
        raise UserError(
            f"{folder} has the format {shown(number)}, of {'a later' if newer else 'an unknown'} "
            f"version of ssd_jax; this one reads 1 to {FORMAT}: install the version that wrote it"
        )


def upgrade(values: Mapping[str, Any], number: int) -> dict[str, Any]:
    """The values of a saved config under the names that fields have today.

    Args:
      values: nested, as JSON holds them.
      number: the format that they were saved in.
    """
    upgraded = copy.deepcopy(dict(values))
    if number > 1:
        return upgraded
    for name in REMOVED:
        upgraded.pop(name, None)
    for old, new in RENAMED.items():
        group, _, field = old.rpartition(".")
        inside = upgraded.get(group) if group else upgraded
        if isinstance(inside, dict) and field in inside:
            inside[new.rpartition(".")[2]] = inside.pop(field)
    return upgraded
