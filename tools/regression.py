"""Compares the speed of this tree with another revision, measured in turns.

    python -m tools.regression
    python -m tools.regression --against=v1.0 --only=train_ssd_small,metrics --rounds=9

This tree is measured with its uncommitted changes. The other revision (by default the commit before
the last) is checked out in a temporary folder. Each side is a process that keeps its compiled
programs. All cases take about three minutes on two cores. A case that a revision cannot run is
reported and left out.

The ratio is new over old: below 1, this tree is faster. Use the CPU time, because other work on the
machine hardly changes it. A ratio is a difference if 1 is outside the range of the rounds.
"Planned" is the memory that XLA plans for a program.
"""

import argparse
import contextlib
import json
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from tools.pairs.sides import ROOT, Side, SideError, ours, prepare_all, take_turns, use_cores
from tools.pairs.table import COLUMNS, compared_row, format_row

Case = dict[str, Any]

# The cases by name, for `tools/pairs/ours.py`.
CASES: dict[str, Case] = {
    "start_help": {"mode": "start", "command": "help"},
    "start_predict": {"mode": "start", "command": "predict", "config": "ssd_small"},
    "metrics": {"mode": "metrics", "images": 2000, "detections": 200},
    "input": {"mode": "input", "config": "ssd300_voc", "images": 64, "batches": 16},
    "train_ssd_small": {"mode": "train", "config": "ssd_small", "batch_size": 4},
    "train_ssdlite": {
        "mode": "train",
        "config": "ssdlite320_mobilenetv2_voc",
        "batch_size": 2,
    },
    "predict_ssd300_1": {"mode": "predict_few", "config": "ssd300_voc", "batch_size": 1},
    "predict_ssd_small_8": {"mode": "predict_few", "config": "ssd_small", "batch_size": 8},
}
OUTPUT = ROOT / "runs" / "regression.json"
SECONDS = 300.0  # limit of preparing a case


class RevisionError(Exception):
    """The revision cannot be checked out; the text says why."""


@contextlib.contextmanager
def checked_out(repository: Path, revision: str) -> Iterator[Path]:
    """Checks out a revision in a temporary folder for the block.

    Raises:
      RevisionError: git does not know the revision, or there is no git.
    """

    def git(*arguments: str) -> None:
        command = ["git", "-C", str(repository), "worktree", *arguments]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise RevisionError(done.stderr.strip())

    with tempfile.TemporaryDirectory() as folder:
        tree = Path(folder, "tree")
        git("add", "--detach", str(tree), revision)
        try:
            yield tree
        finally:
            git("remove", "--force", str(tree))


def measured_rows(
    trees: dict[str, Path], cases: dict[str, Case], rounds: int
) -> Iterator[dict[str, Any]]:
    """Measures two trees in turns.

    Args:
      trees: two, by name, the new one first.
      cases: the work to measure, by name.
      rounds: runs of each tree.

    Yields:
      A row for each case (`compared_row`), with `error` where a tree cannot run it.
    """
    sides = [ours(name, tree) for name, tree in trees.items()]
    try:
        for name, case in cases.items():
            row = {"case": name, "against": sides[1].name}
            try:
                yield row | _compared(sides, case, rounds)
            except SideError as error:
                yield row | {"error": f"left out: {error}"}
                for place, (side, tree) in enumerate(zip(sides, trees.values(), strict=True)):
                    side.close()  # it may have ended, or be busy
                    sides[place] = ours(side.name, tree)
    finally:
        for side in sides:
            side.close()


def _compared(sides: Sequence[Side], case: Case, rounds: int) -> dict[str, Any]:
    about, failed = prepare_all(sides, case, SECONDS)
    if failed:
        raise SideError("; ".join(f"{name}: {error}" for name, error in failed.items()))
    runs = take_turns(sides, rounds)
    new, old = (side.name for side in sides)
    return compared_row(runs[new], runs[old], about[new], about[old])


def end_on_terminate(*_: object) -> None:
    """Ends the program with an exception, so that the folder of the revision is removed."""
    sys.exit("ended by SIGTERM")


def main() -> None:
    """Measures the chosen cases; prints and writes each result at once."""
    parser = argparse.ArgumentParser(description="The speed of this tree and of a revision.")
    parser.add_argument("--against", default="HEAD~1", help="a revision, as git knows it")
    parser.add_argument("--only", default=",".join(CASES), help="cases, joined by commas")
    parser.add_argument("--rounds", type=int, default=7, help="runs of each side")
    parser.add_argument("--cores", type=int, default=2, help="of this machine, for both sides")
    parser.add_argument("--output", type=Path, default=OUTPUT, help="the JSON file")
    options = parser.parse_args()
    chosen = options.only.split(",")
    if unknown := sorted(set(chosen) - CASES.keys()):
        parser.error(f"--only has {unknown[0]!r}, but must be of {', '.join(CASES)}")
    use_cores(options.cores)
    signal.signal(signal.SIGTERM, end_on_terminate)
    rows = []
    try:
        with checked_out(ROOT, options.against) as tree:
            print("".join(COLUMNS), flush=True)
            cases = {name: CASES[name] for name in chosen}
            trees = {"new": ROOT, options.against: tree}
            for row in measured_rows(trees, cases, options.rounds):
                rows.append(row)
                print(format_row(row), flush=True)
                options.output.parent.mkdir(parents=True, exist_ok=True)
                result = {"against": options.against, "cores": options.cores, "rows": rows}
                options.output.write_text(json.dumps(result, indent=2) + "\n")
    except RevisionError as error:
        parser.error(f"--against is {options.against!r}, but git says: {error}")


if __name__ == "__main__":
    main()
