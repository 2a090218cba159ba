"""The form in which configs and classes are saved, and its version."""

from pathlib import Path

from ssd_jax.errors import UserError

FORMAT = 1  # to be raised when older programs can no longer read what newer ones write


def check_format(number: int, folder: Path) -> None:
    """Raises a `UserError` if a folder was written in a form that this version cannot read."""
    if number != FORMAT:
        age = "a later" if number > FORMAT else "an unknown"
        raise UserError(
            f"{folder} has the format {number}, of {age} version of ssd_jax; this one reads "
            f"{FORMAT}: install the version that wrote it"
        )
