"""The time from the start of `ssd-jax predict` to the detections in one image, by engine.

Each start is a new process. The first start has an empty cache folder and compiles; the second one
uses the compiled programs of the first.
"""

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

import ssd_jax
from ssd_jax.benchmark.engines import random_trained
from ssd_jax.config.schema import Config
from ssd_jax.errors import UserError
from ssd_jax.inference.exported_engines import KIND_OF
from ssd_jax.inference.loading import exported_kind, exported_now
from ssd_jax.interop.hub import load_pretrained
from ssd_jax.interop.trained import save_folder

IMAGE_SIZE = (480, 640)  # height and width of a small photograph
# Variables that the command sets itself and must not inherit.
SETTINGS = ("JAX_COMPILATION_CACHE_DIR", "GLIBC_TUNABLES")


def benchmark_starts(detector: Config | str, names: Sequence[str]) -> list[dict[str, Any]]:
    """Measures starts of `ssd-jax predict`, two for each engine.

    Args:
      detector: the weights that `ssd-jax export` wrote, or a config, whose network then has random
        weights. Files for the engines are exported before the measurement.
      names: of `ENGINES`, already checked.

    Returns:
      For each engine: `engine`; `first_seconds` and `first_cpu_seconds` with an empty cache;
      `again_seconds` and `again_cpu_seconds`. All are from the start of the process to its end.

    Raises:
      UserError: the weights cannot be read, or detection fails.
    """
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        pixels = np.random.default_rng(0).integers(0, 256, (*IMAGE_SIZE, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / "image.png")
        places = _files(detector, names, folder)
        return [_row(name, places[name], folder) for name in names]


def _files(detector: Config | str, names: Sequence[str], folder: Path) -> dict[str, str]:
    """The file of each engine: the weights themselves, or an export."""
    if isinstance(detector, str):
        # Commands run in another folder.
        local = Path(detector).resolve() if Path(detector).exists() else detector
        if exported_kind(detector):
            return {name: str(local) for name in names}
        trained, safetensors = load_pretrained(detector), str(local)
    else:
        trained, safetensors = random_trained(detector), str(folder / "safetensors")
        save_folder(trained, safetensors)
    places = dict.fromkeys(names, safetensors)
    for kind in {KIND_OF[name] for name in names if name in KIND_OF}:
        file = folder / f"detector.{kind}"
        file.write_bytes(exported_now(trained, kind, str(file)).content)
        places |= {name: str(file) for name in names if KIND_OF.get(name) == kind}
    return places


def _row(name: str, place: str, folder: Path) -> dict[str, Any]:
    row: dict[str, Any] = {"engine": name}
    environment = {key: value for key, value in os.environ.items() if key not in SETTINGS}
    environment["XDG_CACHE_HOME"] = str(folder / f"cache_{name}")
    source = str(Path(ssd_jax.__file__).parents[1])
    environment["PYTHONPATH"] = os.pathsep.join(
        each for each in (source, environment.get("PYTHONPATH")) if each
    )
    command = [sys.executable, "-m", "ssd_jax", "predict", f"--weights={place}"]
    for turn in ("first", "again"):
        options = [f"--engine={name}", f"--output={folder / f'{turn}_{name}'}"]
        start, cpu_start = time.perf_counter(), _cpu_seconds()
        done = subprocess.run(
            [*command, *options, str(folder / "image.png")],
            cwd=folder,
            env=environment,
            capture_output=True,
            text=True,
        )
        row[f"{turn}_seconds"] = time.perf_counter() - start
        row[f"{turn}_cpu_seconds"] = _cpu_seconds() - cpu_start
        if done.returncode:
            last = (done.stderr.strip().splitlines() or ["no message"])[-1]
            raise UserError(f"detection by {name} ended with status {done.returncode}: {last}")
    return row


def _cpu_seconds() -> float:
    """CPU seconds of finished child processes; 0 on Windows, which does not report them."""
    times = os.times()
    return times.children_user + times.children_system


def format_starts(rows: Sequence[Mapping[str, Any]]) -> str:
    """The rows of `benchmark_starts` as a table."""
    lines = [
        "From the start of `ssd-jax predict` to the detections in one image, in seconds:",
        f"{'engine':<12}{'first':>10}{'CPU':>10}{'again':>10}{'CPU':>10}",
    ]
    lines += [
        f"{row['engine']:<12}{row['first_seconds']:>10.1f}{row['first_cpu_seconds']:>10.1f}"
        f"{row['again_seconds']:>10.1f}{row['again_cpu_seconds']:>10.1f}"
        for row in rows
    ]
    return "\n".join(lines)
