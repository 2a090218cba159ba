"""The sweep as a user runs it, on configs of seconds."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

ROWS_FILE = """
from tests import tiny

ROWS = {"squares": 1, "paper": 2}

def get_config(row="paper"):
    config = tiny.get_config()
    config.published = "98.7 mAP"
    config.steps = 2
    config.eval_every = 0
    if row == "squares":
        config.model.aspect_ratios = ((),) * 4
    return config
"""


def run(*arguments, expect=0):
    done = subprocess.run(
        [sys.executable, "sweep.py", *map(str, arguments)], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == expect, done.stderr
    assert "Traceback" not in done.stderr
    return done


@pytest.fixture(scope="module")
def rows_file(tmp_path_factory):
    file = tmp_path_factory.mktemp("configs") / "rows.py"
    file.write_text(ROWS_FILE)
    return file


def test_a_sweep_makes_a_table_and_resumes(rows_file, tmp_path):
    arguments = [f"--configs={rows_file},tests/tiny.py", f"--workdir={tmp_path}"]
    # Of three runs the first is there already, as if the sweep had been stopped.
    run(f"--configs={rows_file}:squares", f"--workdir={tmp_path}")
    (first,) = json.loads((tmp_path / "table.json").read_text())
    done = run(*arguments, "--config.steps=3", "--config.eval_every=0")
    rows = json.loads((tmp_path / "table.json").read_text())
    assert [row["name"] for row in rows] == ["rows_squares", "rows_paper", "tiny"]
    assert "continuing at step 2 of 3" in done.stderr
    squares, paper, tiny = rows
    assert (squares["default_boxes"], paper["default_boxes"]) == (170, 340)
    assert first["parameters"] == squares["parameters"] < paper["parameters"]
    assert paper["published"] == "98.7 mAP" and tiny["published"] == ""
    assert all(row["steps"] == 3 and 0 <= row["mAP"] <= 1 for row in rows)
    assert (tmp_path / "rows_paper" / "checkpoints" / "3").is_dir()

    table = (tmp_path / "table.md").read_text()
    assert done.stdout == table
    assert f"| rows_squares | {squares['mAP']:.3f} |" in table
    assert table.count("\n") == 5

    again = run(*arguments, "--config.steps=3", "--config.eval_every=0")
    assert again.stderr.count("nothing to do") == 3
    assert again.stdout == table


@pytest.mark.parametrize(
    "arguments, complaint",
    [
        (["--configs=no/such.py"], "no/such.py, which does not exist"),
        (["--configs=configs/ablations/table2.py:x"], "has the rows flip_only, squares"),
        (["--configs=tests/tiny.py,tests/tiny.py"], "has tiny twice"),
        (["--configs=tests/tiny.py", "--steps=3"], "--steps=3 is neither a flag"),
        (["--configs=tests/tiny.py", "--config.bach_size=3"], 'Did you mean "batch_size"'),
        (["--configs=tests/tiny.py", "--config.steps=x"], "invalid literal"),
    ],
)
def test_mistakes_end_in_one_line(arguments, complaint, tmp_path):
    done = run(*arguments, f"--workdir={tmp_path}", expect=1)
    assert done.stderr.startswith("error: ") and complaint in done.stderr
