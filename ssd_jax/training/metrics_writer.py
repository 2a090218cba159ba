"""`metrics.jsonl`: the metrics of a run as lines of JSON, for programs and restarts."""

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ssd_jax.config.schema import Config
from ssd_jax.errors import UserError, shown
from ssd_jax.storage.files import read_json_lines, write_text
from ssd_jax.training.hooks import Hook

FILE = "metrics.jsonl"


class MetricsWriter(Hook):
    """Appends to the file of a work directory."""

    def start(self, config: Config, workdir: Path, step: int) -> None:
        """Opens the file.

        Lines of later steps, from an interrupted run, are removed: they will be written again.
        """
        kept = [line for line in read_metrics(workdir) if line["step"] <= step]
        write_text(workdir / FILE, "".join(_json_line(line) for line in kept))
        self._lines = (workdir / FILE).open("a", buffering=1)

    def scalars(self, step: int, values: Mapping[str, float | None]) -> None:
        """Writes one line; numbers that are not finite become null, because JSON has none."""
        self._lines.write(_json_line({"step": step, **values}))

    def end(self, error: BaseException | None) -> None:
        """Closes the file."""
        self._lines.close()


def read_metrics(workdir: Path) -> list[dict[str, Any]]:
    """The lines of `metrics.jsonl`, except an incomplete last one; empty without the file.

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
