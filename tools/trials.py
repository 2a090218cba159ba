"""Short trainings side by side: what was done already, who does which, and the table of results.

A trial is one training. Its result is a line of a file, so that a program that was stopped goes on
where it was. Several processes may work on one folder; each takes a trial that no other has.
"""

import contextlib
import statistics
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from filelock import FileLock, Timeout

from ssd_jax.storage.files import append_json_line, read_json_lines

RESULTS = "results.jsonl"
Row = dict[str, Any]


class Trial(NamedTuple):
    """One training."""

    data: str  # the name of a data set
    image_size: int
    steps: int
    seed: int
    variant: str

    @property
    def name(self) -> str:
        """The name of its folder."""
        return "_".join(map(str, self)).replace(" ", "-").replace("/", "-")


def read_results(folder: Path) -> dict[Trial, Row]:
    """The results so far, by trial."""
    rows = read_json_lines(folder / RESULTS)
    return {Trial(*(row[field] for field in Trial._fields)): row for row in rows}


def run_all(
    trials: Iterable[Trial], folder: Path, run: Callable[[Trial, Path], Row | None]
) -> None:
    """Runs the trials that are not done; adds a line to the results after each.

    Args:
      trials: in the order in which they are run.
      folder: holds the results, and in `trials` what belongs to one of them.
      run: trains in a folder, where an earlier call may have been stopped; returns the result, or
        None where it failed.
    """
    places = folder / "trials"
    places.mkdir(parents=True, exist_ok=True)
    for trial in trials:
        with claimed(places / f"{trial.name}.lock") as is_ours:
            if not is_ours or trial in read_results(folder):
                continue
            row = run(trial, places / trial.name)
            if row is not None:
                with FileLock(places / f"{RESULTS}.lock"):
                    append_json_line(folder / RESULTS, trial._asdict() | row)


@contextlib.contextmanager
def claimed(file: Path) -> Iterator[bool]:
    """Whether this process has the lock of a file, for the block; another may have it."""
    lock = FileLock(file)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        yield False
        return
    try:
        yield True
    finally:
        lock.release()


def format_table(results: dict[Trial, Row], variants: Sequence[str]) -> str:
    """The mAP of the variants in Markdown; a column for each data set, input size and length.

    A cell is the mean over seeds in percent, ± half the difference between highest and lowest, and,
    where there are seeds in common, by how much they are above those of the first variant.
    """
    values: dict[tuple[Any, ...], dict[int, float]] = defaultdict(dict)
    for trial, row in results.items():
        if row["mAP"] is not None and trial.variant in variants:
            column = (trial.data, trial.image_size, trial.steps)
            values[*column, trial.variant][trial.seed] = 100 * row["mAP"]
    columns = sorted({key[:3] for key in values})
    titles = [f"{data}, {size} pixels, {steps:,} steps" for data, size, steps in columns]
    lines = ["| " + " | ".join(["", *titles]) + " |", "|---|" + "---:|" * len(columns)]
    for variant in variants:
        cells = [
            _cell(values.get((*column, variant), {}), values.get((*column, variants[0]), {}))
            for column in columns
        ]
        lines.append("| " + " | ".join([variant, *cells]) + " |")
    return "\n".join(lines) + "\n"


def _cell(of_seeds: dict[int, float], baseline: dict[int, float]) -> str:
    """The values of one variant, by seed, beside those of the first."""
    if not of_seeds:
        return "–"
    found = list(of_seeds.values())
    text = f"{statistics.mean(found):.1f}"
    if len(found) > 1:
        text += f" ± {(max(found) - min(found)) / 2:.1f}"
    common = of_seeds.keys() & baseline.keys()
    if common and of_seeds is not baseline:
        gain = statistics.mean(of_seeds[seed] - baseline[seed] for seed in common)
        text += f" ({gain:+.1f})"
    return text
