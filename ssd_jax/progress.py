"""Progress bars: tqdm on a terminal, and a line at intervals elsewhere, for example in a log."""

import io
import os
import sys
from collections.abc import Iterable
from typing import TextIO

from tqdm import tqdm

LOG_SECONDS = 30.0  # between two lines; the variable TQDM_MININTERVAL sets another time


def progress_bar(
    iterable: Iterable | None = None,
    *,
    total: int | None,
    desc: str,
    unit: str,
    unit_scale: bool = False,
    initial: int = 0,
    leave: bool = True,
    disable: bool = False,
) -> tqdm:
    """A progress bar on standard error; see tqdm for the arguments."""
    is_terminal = sys.stderr.isatty()
    seconds = 0.1 if is_terminal else LOG_SECONDS
    return tqdm(
        iterable,
        total=total,
        desc=desc,
        unit=unit,
        unit_scale=unit_scale,
        initial=initial,
        leave=leave,
        disable=disable,
        dynamic_ncols=is_terminal,
        file=sys.stderr if is_terminal else _Lines(sys.stderr),
        mininterval=float(os.environ.get("TQDM_MININTERVAL", seconds)),
        # After this time tqdm prints an update even after few steps.
        maxinterval=10.0 if is_terminal else 2 * LOG_SECONDS,
    )


class _Lines(io.TextIOBase):
    """Writes each state of a bar as a line, without codes that move the cursor."""

    def __init__(self, file: TextIO) -> None:
        self._file = file

    def write(self, text: str) -> int:
        line = text.replace("\x1b[A", "").strip()
        if line:
            self._file.write(f"{line}\n")
        return len(text)

    def flush(self) -> None:
        self._file.flush()
