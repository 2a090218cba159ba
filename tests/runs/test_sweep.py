"""The sweep as a user runs it, with configs that train in seconds."""

import json

import jax.numpy as jnp
import pytest

from ssd_jax.cli.sweep import COMMAND
from ssd_jax.config.schema import as_config
from ssd_jax.distributed import devices
from ssd_jax.errors import UserError
from ssd_jax.models.network import build_network
from ssd_jax.runs.result import TrainResult
from ssd_jax.runs.sweep import format_markdown, summarise_run, sweep
from ssd_jax.runs.workdir import record_run
from ssd_jax.training.checkpoints import Checkpoints
from ssd_jax.training.optimizer import make_optimizer, make_schedule
from ssd_jax.training.state import initial_state
from tests import tiny

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


def run(*arguments):
    """The command, in this process."""
    words = [str(word) for word in arguments]
    COMMAND.main(COMMAND.parse(["ssd-jax", *words]))


@pytest.fixture(scope="module")
def rows_file(tmp_path_factory):
    file = tmp_path_factory.mktemp("configs") / "rows.py"
    file.write_text(ROWS_FILE)
    return file


def row_config(name):
    config = tiny.get_config()
    config.update(steps=2, eval_every=2, log_every=1)
    if name == "squares":
        config.model.aspect_ratios = ((),) * 4
    return config


def finish_run(config, place):
    """Writes the files of a finished run of this config, without training."""
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
def test_a_sweep_makes_a_table_and_resumes(rows_file, tmp_path, capsys):
    # Of two runs the first is done, as if the sweep had been stopped.
    config = row_config("squares")
    finish_run(config, tmp_path / "rows_squares")
    wrong = tiny.get_config()
    wrong.freeze = "no_such_layer"  # is found where the network is built
    with pytest.raises(UserError, match="no_such_layer"):
        runs = [("rows_squares", config), ("wrong", wrong)]
        sweep(runs, str(tmp_path), {"rows_squares": "98.7 mAP"})
    (first,) = json.loads((tmp_path / "table.partial.json").read_text())
    assert first["mAP"] == 0.25 and (tmp_path / "table.partial.md").read_text().count("\n") == 3
    assert not (tmp_path / "table.json").exists()

    finish_run(row_config("paper"), tmp_path / "rows_paper")
    # Without the field both would be refused: they are of runs with another config.
    run(f"--configs={rows_file}", f"--workdir={tmp_path}", "--config.log_every=1")
    rows = json.loads((tmp_path / "table.json").read_text())
    assert [row["name"] for row in rows] == ["rows_squares", "rows_paper"]
    squares, paper = rows
    assert squares == first
    assert (squares["default_boxes"], paper["default_boxes"]) == (170, 340)
    assert squares["parameters"] < paper["parameters"]
    assert all(row["published"] == "98.7 mAP" and row["steps"] == 2 for row in rows)

    assert not list(tmp_path.glob("table.partial.*"))
    table = (tmp_path / "table.md").read_text()
    assert capsys.readouterr().out == table
    assert f"| rows_squares | {squares['mAP']:.3f} |" in table
    assert table.count("\n") == 4


def test_a_run_in_one_row(tmp_path):
    config = as_config(tiny.get_config()).replace({"steps": 400})
    record_run(tmp_path, config, ("a", "b"), (1, 2))
    metrics = {
        40: {"train/images_per_second": 20.0, "eval/mAP": 0.3},
        10: {"train/loss": 5.0},
        20: {"train/images_per_second": 30.0, "eval/mAP": 0.4},
        30: {"train/images_per_second": 10.0},
    }
    row = summarise_run("tiny", config, TrainResult(tmp_path, 40, metrics, 20, 0.4))
    assert (row["mAP"], row["metric"], row["images_per_second"]) == (0.3, "voc07", 20.0)
    assert row["steps"] == 40  # patience ended it
    row = summarise_run("tiny", config, TrainResult(tmp_path, 40, {10: metrics[10]}, None, None))
    assert row["mAP"] is row["images_per_second"] is None
    assert "| tiny | – | voc07 | 2" in format_markdown([row])


def test_a_wrong_config_is_named_before_the_first_run(tmp_path):
    right, wrong = tiny.get_config(), tiny.get_config()
    wrong.batch_size = 0
    with pytest.raises(UserError, match=r"^second: config\.batch_size is 0"):
        sweep([("first", right), ("second", wrong)], str(tmp_path))
    wrong = tiny.get_config()
    wrong.data.train = "voc_xml:/no/such:train"
    with pytest.raises(UserError, match=r"^second: .*/no/such"):
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
def test_mistakes_are_reported_before_the_first_run(arguments, complaint, tmp_path):
    with pytest.raises(UserError) as error:
        run(*arguments, f"--workdir={tmp_path / 'sweep'}")
    assert complaint in str(error.value) and not (tmp_path / "sweep").exists()


def test_a_sweep_needs_a_config():
    arguments = COMMAND.parse(["sweep", "--configs=", "--workdir=runs/none"])
    with pytest.raises(UserError, match="--configs names no config: write --configs=ssd300_voc"):
        COMMAND.main(arguments)
