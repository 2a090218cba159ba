"""Writes what a run measures: `metrics.jsonl` for programs, TensorBoard files for people."""

import json
from pathlib import Path

import numpy as np
from tensorboardX import SummaryWriter


class MetricsWriter:
    """Appends to the files of a work directory."""

    def __init__(self, workdir: Path):
        self._lines = (workdir / "metrics.jsonl").open("a", buffering=1)
        self._tensorboard = SummaryWriter(str(workdir / "tensorboard"))

    def scalars(self, step: int, values: dict[str, float]) -> None:
        """Writes one line, and one point of every curve."""
        self._lines.write(json.dumps({"step": step, **values}) + "\n")
        for name, value in values.items():
            self._tensorboard.add_scalar(name, value, step)

    def image(self, step: int, name: str, picture: np.ndarray) -> None:
        """Shows a picture `[height, width, 3] uint8` in TensorBoard."""
        self._tensorboard.add_image(name, picture, step, dataformats="HWC")

    def close(self) -> None:
        """Writes out what is left."""
        self._lines.close()
        self._tensorboard.close()
