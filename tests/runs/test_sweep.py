"""The sweep as a user runs it, on configs of seconds."""

import json

import jax.numpy as jnp
import pytest

from ssd_jax.config.schema import as_config
from ssd_jax.distributed import devices
from ssd_jax.errors import UserError
from ssd_jax.models.network import build_network
from ssd_jax.runs.sweep import format_markdown, summarise_run, sweep
from ssd_jax.runs.workdir import record_run
from ssd_jax.training.checkpoints import Checkpoints
from ssd_jax.training.optimizer import make_optimizer, make_schedule
from ssd_jax.training.state import initial_state
from tests import tiny
from tests.helpers.commands import run_command

ROWS_FILE = """
from tests import tiny

PUBLISHED = "mAP"
ROWS = {"squares": 98.7, "paper": 98.7}

def get_config(row="paper"):
    config = tiny.get_config()
    config.steps = 2
    config.eval_every = 2
    if row == "squares":
        config.model.aspect_ratios = ((),) * 4
    return config
"""


def run(*arguments, expect=0):
    return run_command("sweep", *arguments, expect=expect)


@pytest.fixture(scope="module")
def rows_file(tmp_path_factory):
    file = tmp_path_factory.mktemp("configs") / "rows.py"
    file.write_text(ROWS_FILE)
    return file


def squares_config():
    config = tiny.get_config()
    config.update(steps=2, eval_every=2, log_every=1)
    config.model.aspect_ratios = ((),) * 4
    return config


def finish_run(config, place):
    """Leaves what a run of this config leaves at its end, but untrained."""
    names = ("circle", "cross", "square", "star", "triangle")
    config = as_config(config)
    record_run(place, config, names, range(1, 6))
    network = build_network(config.model, len(names))
    state = initial_state(*network.init(0), make_optimizer(config, make_schedule(config)))
    checkpoints = Checkpoints(place / "checkpoints")
    checkpoints.save(devices.replicate(state._replace(step=jnp.int32(config.steps))))
    checkpoints.close()
    (place / "metrics.jsonl").write_text(json.dumps({"step": 2, "eval/mAP": 0.25}))


@pytest.mark.slow
def test_a_sweep_makes_a_table_and_resumes(rows_file, tmp_path):
    # Of two runs the first is there already, as if the sweep had been stopped.
    config = squares_config()
    finish_run(config, tmp_path / "rows_squares")
    missing = tiny.get_config()
    missing.data.train = "voc_xml:/no/such:train"
    with pytest.raises(UserError, match="/no/such"):
        runs = [("rows_squares", config), ("missing", missing)]
        sweep(runs, str(tmp_path), {"rows_squares": "98.7 mAP"})
    (first,) = json.loads((tmp_path / "table.partial.json").read_text())
    assert first["mAP"] == 0.25 and (tmp_path / "table.partial.md").read_text().count("\n") == 3
    assert not (tmp_path / "table.json").exists()

    done = run(f"--configs={rows_file}", f"--workdir={tmp_path}", "--config.log_every=1")
    assert done.stderr.count("nothing to do") == 1
    rows = json.loads((tmp_path / "table.json").read_text())
    assert [row["name"] for row in rows] == ["rows_squares", "rows_paper"]
    squares, paper = rows
    assert squares == first
    assert (squares["default_boxes"], paper["default_boxes"]) == (170, 340)
    assert squares["parameters"] < paper["parameters"]
    assert all(row["published"] == "98.7 mAP" and row["steps"] == 2 for row in rows)
    assert (tmp_path / "rows_paper" / "checkpoints" / "2").is_dir()
    recorded = json.loads((tmp_path / "rows_paper" / "config.json").read_text())
    assert recorded["log_every"] == 1  # given on the command line

    assert not list(tmp_path.glob("table.partial.*"))
    table = (tmp_path / "table.md").read_text()
    assert done.stdout == table
    assert f"| rows_squares | {squares['mAP']:.3f} |" in table
    assert table.count("\n") == 4


def test_a_run_in_one_row(tmp_path):
    config = as_config(tiny.get_config()).replace({"steps": 40})
    record_run(tmp_path, config, ("a", "b"), (1, 2))
    lines = [
        {"step": 10, "train/loss": 5.0},
        {"step": 20, "train/images_per_second": 30.0},
        {"step": 20, "eval/mAP": 0.1},
        {"step": 30, "train/images_per_second": 10.0},
        {"step": 40, "train/images_per_second": 20.0},
        {"step": 40, "eval/mAP": 0.3},
    ]
    (tmp_path / "metrics.jsonl").write_text("\n".join(map(json.dumps, lines)))
    row = summarise_run("tiny", config, tmp_path)
    assert (row["mAP"], row["metric"], row["images_per_second"]) == (0.3, "voc07", 20.0)
    (tmp_path / "metrics.jsonl").write_text(json.dumps(lines[0]))
    row = summarise_run("tiny", config, tmp_path)
    assert row["mAP"] is row["images_per_second"] is None
    assert "| tiny | – | voc07 | 2" in format_markdown([row])


def test_a_wrong_config_is_named_before_the_first_run(tmp_path):
    right, wrong = tiny.get_config(), tiny.get_config()
    wrong.batch_size = 0
    with pytest.raises(UserError, match=r"^second: config\.batch_size is 0"):
        sweep([("first", right), ("second", wrong)], str(tmp_path))
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize(
    "arguments, complaint",
    [
        (["--configs=configs/ablations/table2.py:square"], "did you mean squares?"),
        (["--configs=tests/tiny.py,tests/tiny.py"], "has tiny twice"),
        (["--configs=tests/tiny.py", "--wrkdir=3"], "--wrkdir=3 is neither a flag"),
    ],
)
@pytest.mark.slow
def test_mistakes_end_in_one_line(arguments, complaint, tmp_path):
    done = run(*arguments, f"--workdir={tmp_path}", expect=1)
    assert done.stderr.startswith("error: ") and complaint in done.stderr
