"""Converts the messages of absl about a command line to plain words."""

import contextlib
import re
from collections.abc import Iterator

from absl import flags

from ssd_jax.errors import UserError

# Messages of absl and Python about the values of flags, and our replacements.
MEANINGS = {
    r"invalid literal for int\(\) with base .*": "must be a whole number",
    r"Exceeds the limit \(\d+ digits\) for integer .*": "must be a number with fewer digits",
    r"could not convert string to float: .*": "must be a number",
    r"\('Non-boolean argument to boolean flag', .*": "must be true or false",
    r"Failed to parse .* as a ConfigDict: .*": "this is a group of fields: name one of them, "
    "GROUP.FIELD=VALUE",
}


@contextlib.contextmanager
def readable_messages() -> Iterator[None]:
    """Converts absl's errors about a command line to a `UserError` without Python terms."""
    try:
        yield
    except (flags.Error, OSError, UnicodeDecodeError) as error:
        if not isinstance(error, flags.IllegalFlagValueError):
            reason = str(error).removeprefix("ERROR:: ")
            raise UserError(f"the command line cannot be read: {reason}") from error
        message = str(error)
        for words, meaning in MEANINGS.items():
            message = re.sub(words, meaning, message, flags=re.DOTALL)
        raise UserError(message) from error
