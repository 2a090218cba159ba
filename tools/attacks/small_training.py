"""Trains for seconds on a small data set on disk, in this process."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from ssd_jax.config.files import load_config
from ssd_jax.data.records import Object
from ssd_jax.runs.train import train
from tools.formats import voc_xml
from tools.formats.noise import picture
from tools.formats.picture import Picture
from tools.package_warnings import Warnings
from tools.small_run import TINY

DOG = Object("dog", (6, 4, 30, 24))
CAT = Object("cat", (20, 10, 56, 38))


def pictures(names: Sequence[str], *objects: Object) -> list[Picture]:
    """Pictures of noise, all with the same objects."""
    return [
        picture(f"{name}.jpg", (40, 60), *objects, seed=seed) for seed, name in enumerate(names)
    ]


def write_data(folder: Path, given: Sequence[Picture]) -> Path:
    """Writes a data set in Pascal VOC's layout."""
    voc_xml.write(given, folder)
    return folder


def train_small(data: Path, workdir: Path, **changes: object) -> list[str]:
    """Trains with the tiny config, by default without evaluation; returns the warnings of the run.

    Args:
      data: a folder of `write_data`.
      workdir: the work directory.
      changes: values of other fields; two underscores mean a dot.

    Raises:
      UserError: as `train`.
    """
    values: Mapping[str, object] = {
        "batch_size": 2,
        "data.train": f"voc_xml:{data}:train",
        "data.eval": "",
        **{name.replace("__", "."): value for name, value in changes.items()},
    }
    warnings = Warnings()
    try:
        with warnings.collect():
            train(load_config(str(TINY)).replace(dict(values)), workdir, change_config=True)
    finally:
        check_metrics(workdir)
    return warnings.messages


def check_metrics(workdir: Path) -> None:
    """Checks that every line of `metrics.jsonl` is JSON, which does not allow infinity."""

    def refuse(word: str) -> None:
        raise AssertionError(f"metrics.jsonl contains {word}, which is not JSON")

    file = workdir / "metrics.jsonl"
    for line in file.read_text().splitlines() if file.is_file() else []:
        json.loads(line, parse_constant=refuse)
