"""Before and after a change: the speed of this tree and of another revision, measured in turns.

    python -m tools.regression
    python -m tools.regression --against=v1.0 --only=train_ssd_small,metrics --rounds=9

This tree is measured as it is, with what is not committed. The other revision (the last commit but
one, if none is given) is checked out in a temporary folder. Each side is a process that keeps what
it has compiled; all takes about three minutes on two cores. A case that a revision does not know is
left out, and said so.

The ratio is new over old: below 1 this tree is faster. Rely on processor time, which other work on
the machine hardly changes, and take a ratio for a difference where 1 lies outside of the lowest and
the highest round. "Planned" is the memory that XLA plans for a program.
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

# By name the work, for `tools/pairs/ours.py`.
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
    """There is no such revision; the text says why."""


@contextlib.contextmanager
def checked_out(repository: Path, revision: str) -> Iterator[Path]:
    """A revision of a repository as a folder, for a while.

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
      cases: what is measured, by name.
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
    """Ends the program as an error does, so that the folder of the revision is removed."""
    sys.exit("ended by SIGTERM")


def main() -> None:
    """Measures the cases that were chosen, and prints and writes each as it is ready."""
    parser = argparse.ArgumentParser(description="The speed of this tree beside a revision's.")
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
