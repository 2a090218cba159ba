"""Writes what a run measures: `metrics.jsonl` for programs, TensorBoard files for people."""

import json
import math
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from tensorboardX import summary
from tensorboardX.event_file_writer import EventsWriter
from tensorboardX.proto.event_pb2 import (
    Event,  # pyright: ignore[reportAttributeAccessIssue]
    SessionLog,  # pyright: ignore[reportAttributeAccessIssue]
)

from ssd_jax.errors import UserError, shown
from ssd_jax.storage.files import read_json_lines, write_text

FILE = "metrics.jsonl"


class MetricsWriter:
    """Appends to the files of a work directory."""

    def __init__(self, workdir: Path, first_step: int = 0):
        """Opens the files.

        Args:
          workdir: the work directory.
          first_step: where the run goes on. What a run that was cut off wrote of later steps is
            taken out: it will be written again.
        """
        kept = [line for line in read_metrics(workdir) if line["step"] <= first_step]
        write_text(workdir / FILE, "".join(_json_line(line) for line in kept))
        self._lines = (workdir / FILE).open("a", buffering=1)
        folder = workdir / "tensorboard"
        folder.mkdir(exist_ok=True)
        # Written at once: tensorboardX's usual writer is a thread, and where that dies of a full
        # disk, the program waits for it for ever.
        self._events = EventsWriter(str(folder / "events"), f".{first_step:09d}")
        start = SessionLog(status=SessionLog.START)  # takes later points out of the curves
        self._write(Event(step=first_step + 1, session_log=start))

    def scalars(self, step: int, values: Mapping[str, float | None]) -> None:
        """Writes one line, and one point of every curve.

        None is a number that there is not. What is not finite is written as null, as JSON has no
        word for it, and as no point.
        """
        self._lines.write(_json_line({"step": step, **values}))
        for name, value in values.items():
            if value is not None and math.isfinite(value):
                self._write(Event(step=step, summary=summary.scalar(name, value)))
        self._events.flush()

    def image(self, step: int, name: str, picture: np.ndarray) -> None:
        """Shows a picture `[height, width, 3] uint8` in TensorBoard."""
        shown = summary.image(name, picture, dataformats="HWC")
        self._write(Event(step=step, summary=shown))

    def close(self) -> None:
        """Writes out what is left."""
        self._lines.close()
        self._events.close()

    def _write(self, event: Event) -> None:
        event.wall_time = time.time()
        self._events.write_event(event)


def read_metrics(workdir: Path) -> list[dict[str, Any]]:
    """The lines of `metrics.jsonl`, but for a last one that was cut off; none without the file.

    Raises:
      UserError: the file is damaged.
    """
    lines = read_json_lines(workdir / FILE)
    for number, line in enumerate(lines, 1):
        numbers = [value for value in line.values() if value is not None]
        is_form = all(type(value) in (int, float) for value in numbers)
        if not is_form or type(line.get("step")) is not int:
            raise UserError(
                f"{workdir / FILE}, line {number}, is damaged: it is {shown(line)}, but must hold "
                "a step and numbers; remove the line"
            )
    return lines


def _json_line(values: Mapping[str, float | None]) -> str:
    finite = {
        name: value if value is None or math.isfinite(value) else None
        for name, value in values.items()
    }
    return json.dumps(finite, allow_nan=False) + "\n"
