"""What ends a program before its end: a mistake of the user's, or a wish of the machine's."""

import reprlib
from typing import Any

_short = reprlib.Repr()
_short.maxstring = _short.maxother = 80


class UserError(ValueError):
    """Something given to the program is wrong; the message names it and says what to do.

    The scripts print the message alone, without a traceback.
    """


class Interrupted(KeyboardInterrupt):
    """The program was asked to end, and will go on when it is started again.

    The scripts print the message and leave with the status 75, "try again". It is a
    `KeyboardInterrupt`, so that no handler of errors takes it for a failure of its own.
    """


def shown(value: Any) -> str:
    """A value from a file as messages show it: in one line, and short however long it is."""
    return _short.repr(value)
