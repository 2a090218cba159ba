"""Trials: the file of finished trainings, the division of work, and the table of results.

A trial is one short training. Its result is a line of a file, so that a stopped program continues
where it was. Several processes may work on one folder; each takes a trial that no other runs.
"""

import argparse
import contextlib
import statistics
import sys
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
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
    """Runs the trials that are not finished; adds a line to the results after each.

    Args:
      trials: in the order in which they are run.
      folder: for the results, with a folder for each trial in `trials`.
      run: trains in a folder, which may have files of a stopped call; returns the result, or None
        after a failure.
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
    """Locks a file for the block; false if another process has the lock."""
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


def format_table(results: Mapping[Trial, Row], variants: Mapping[str, str]) -> str:
    """The mAP of the variants in Markdown; a column for each data set, input size and length.

    A cell is the mean over seeds in percent, ± half the difference between highest and lowest. If
    both variants have the same seeds, it also has the difference from the compared variant.

    Args:
      results: by trial.
      variants: by name, the variant that each is compared with.
    """
    values: dict[tuple[Any, ...], dict[int, float]] = defaultdict(dict)
    for trial, row in results.items():
        if row["mAP"] is not None and trial.variant in variants:
            column = (trial.data, trial.image_size, trial.steps)
            values[*column, trial.variant][trial.seed] = 100 * row["mAP"]
    columns = sorted({key[:3] for key in values})
    titles = [f"{data}, {size} pixels, {steps:,} steps" for data, size, steps in columns]
    lines = ["| " + " | ".join(["", *titles]) + " |", "|---|" + "---:|" * len(columns)]
    for variant, other in variants.items():
        cells = [
            _cell(values.get((*column, variant), {}), values.get((*column, other), {}))
            for column in columns
        ]
        lines.append("| " + " | ".join([variant, *cells]) + " |")
    return "\n".join(lines) + "\n"


def _cell(of_seeds: dict[int, float], baseline: dict[int, float]) -> str:
    """A cell of the table: the values of one variant by seed, compared with another."""
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


def add_options(parser: argparse.ArgumentParser) -> None:
    """The options of programs that run trials."""
    parser.add_argument("--folder", type=Path, required=True, help="for results and trainings")
    parser.add_argument(
        "--data",
        nargs=3,
        action="append",
        required=True,
        metavar=("NAME", "TRAIN", "EVAL"),
        help="a data set: any name, and its two sources; may be given several times",
    )
    parser.add_argument("--steps", type=_numbers, default=[300], help="numbers of steps")
    parser.add_argument("--seeds", type=_numbers, default=[0, 1])
    parser.add_argument("--image_size", type=int, default=160)
    parser.add_argument("--init", default="torchvision:imagenet", help="config.init")
    parser.add_argument("--table", action="store_true", help="only print the table")


def _numbers(text: str) -> list[int]:
    return [int(word) for word in text.split(",")]


def chosen_trials(options: argparse.Namespace, variants: Iterable[str]) -> list[Trial]:
    """The trials of these options, short ones first."""
    return [
        Trial(name, options.image_size, steps, seed, variant)
        for steps in options.steps
        for seed in options.seeds
        for name, *_ in options.data
        for variant in variants
    ]


def run_and_print(
    options: argparse.Namespace,
    arguments: Mapping[Trial, Sequence[str]],
    variants: Mapping[str, str],
    run: Callable[[Trial, Path], Row | None],
) -> None:
    """Runs the trials that are not finished yet, and prints the table.

    Args:
      options: of `add_options`.
      arguments: of each trial, which results have too.
      variants: see `format_table`.
      run: see `run_all`.
    """
    for trial, row in read_results(options.folder).items():
        if trial in arguments and row["arguments"] != list(arguments[trial]):
            sys.exit(
                f"error: the results of {options.folder} have {trial.name} with other values than "
                "now: name the variant otherwise, or use another folder"
            )
    if not options.table:
        run_all(arguments, options.folder, run)
    results = read_results(options.folder)
    chosen = {trial: row for trial, row in results.items() if trial in arguments}
    print(format_table(chosen, variants), end="")
