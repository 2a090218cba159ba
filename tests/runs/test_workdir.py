import os
import subprocess
import sys
from pathlib import Path

import pytest

from ssd_jax.config.schema import as_config
from ssd_jax.errors import UserError
from ssd_jax.runs import provenance, workdir
from ssd_jax.runs.changed_config import (
    STAYING,
    check_can_continue,
    check_same_config,
    describe_changes,
)
from tests import tiny

HOLD = """
import sys
from pathlib import Path
from ssd_jax.runs import provenance
from ssd_jax.runs import workdir
from ssd_jax.runs.changed_config import check_same_config, describe_changes
with workdir.locked(Path(sys.argv[1])):
    workdir.record_start(Path(sys.argv[1]), provenance.describe_program())
    print("held", flush=True)
    sys.stdin.read()
"""


def test_a_folder_that_is_no_run_gets_a_suggestion(tmp_path):
    def told(path):
        with pytest.raises(UserError, match="is not the work directory of a run: ") as error:
            workdir.read_config(path)
        return str(error.value).partition(" is not the work directory of a run: ")[2]

    runs = tmp_path / "runs"
    workdir.record_run(runs / "quickstart", as_config(tiny.get_config()), ["dog"], [1])
    (runs / "quikstart_data").mkdir()  # nearer, but no run
    (runs / "quickstart" / "checkpoints").mkdir()
    assert told(runs / "quikstart") == f"it does not exist: did you mean {runs / 'quickstart'}?"
    assert told(runs / "other") == "it does not exist; `ssd-jax train` makes one"
    assert told(tmp_path / "no" / "such") == "it does not exist; `ssd-jax train` makes one"
    assert told(runs) == f"it contains one: name {runs / 'quickstart'}"
    inside = runs / "quickstart" / "checkpoints"
    assert told(inside) == f"it is inside one: name {runs / 'quickstart'}"
    assert told(runs / "quikstart_data").startswith("`ssd-jax train` wrote nothing into it; name")
    assert told(runs / "quickstart" / "config.json") == "it is a file"
    # A run from which a file was removed.
    (runs / "quickstart" / "format.json").unlink()
    assert told(runs / "quickstart").startswith("it has no format.json. Put back a copy of it, or")


def test_one_process_alone_trains_in_a_work_directory(tmp_path):
    folder = tmp_path / "run"
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(folder)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert holder.stdout.readline() == b"held\n"
    with pytest.raises(UserError) as error, workdir.locked(folder):
        pytest.fail("the lock was given twice")
    assert f"{folder} is in use" in str(error.value) and f"number {holder.pid}" in str(error.value)
    holder.kill()
    holder.wait()
    with workdir.locked(folder), pytest.raises(UserError), workdir.locked(folder):
        pytest.fail("the lock was given twice")
    with workdir.locked(folder):
        pass


def test_another_config_is_refused_and_its_changes_are_named(tmp_path):
    config = as_config(tiny.get_config())
    check_same_config(tmp_path, config)  # nothing there yet
    workdir.record_run(tmp_path, config, ("a", "b"), (1, 2))
    check_same_config(tmp_path, config)
    config = config.replace({"model.width": 0.5, "learning_rate_drops": (0.5,)})
    with pytest.raises(UserError) as error:
        check_same_config(tmp_path, config)
    message = str(error.value)
    assert "config.model.width from 0.02 to 0.5" in message
    assert "config.learning_rate_drops from " in message and "to [0.5]" in message
    assert "config.model.precision" not in message
    assert str(tmp_path) in message and "--change_config" in message


def test_changes_of_a_continued_run_are_reported_with_the_rate(tmp_path):
    config = as_config(tiny.get_config()).replace({"steps": 100, "warmup_steps": 0})
    workdir.record_run(tmp_path, config, ("a",), (1,))
    assert describe_changes(tmp_path, config, 90) == ""
    told = describe_changes(tmp_path, config.replace({"metric": "coco"}), 90)
    assert told == "from step 90 on: config.metric from 'voc07' to 'coco'"
    # Divided by 10 after two thirds of 100 steps (tiny.py), and by nothing before those of 200.
    told = describe_changes(tmp_path, config.replace({"steps": 200}), 90)
    rate = config.learning_rate
    assert told.endswith(f"next step is {rate:.3g} instead of {rate / 10:.3g}")


def test_changes_of_fixed_fields_of_a_run_are_rejected(tmp_path):
    config = as_config(tiny.get_config()).replace({"ema": 0.9})
    workdir.record_run(tmp_path, config, ("a",), (1,))
    others = {"optimizer": "sgd", "freeze": "backbone/*", "ema": 0.0}
    assert config.optimizer == "adam" and set(others) == set(STAYING)
    for name, value in others.items():
        with pytest.raises(UserError, match=rf"config\.{name} is .* with config\.init=run:/"):
            check_can_continue(tmp_path, config.replace({name: value}), [2], change_config=True)
    # With other default boxes the arrays would be as large, and mean something else.
    for name, value in {"whole_pixels": False, "clip": True, "width": 0.5}.items():
        with pytest.raises(UserError, match=rf"config\.model\.{name} is {value}, but the run in"):
            changed = config.replace({f"model.{name}": value})
            check_can_continue(tmp_path, changed, [2], change_config=True)
    for changes in ({"ema": 0.99}, {"model.precision": "bfloat16"}):
        check_can_continue(tmp_path, config.replace(changes), [2], change_config=True)
    told = describe_changes(tmp_path, config.replace({"init": "run:before"}), 2)
    assert told.endswith("to 'run:before' (without effect: the run continues with its own weights)")


@pytest.mark.parametrize("name", ["config.json", "classes.json"])
def test_files_are_whole_or_not_there(name, tmp_path, monkeypatch):
    config, replace = as_config(tiny.get_config()), os.replace
    workdir.record_run(tmp_path, config, ("a",), (1,))
    before = (tmp_path / name).read_text()

    def cut_off(source, target):
        if target == tmp_path / name:
            raise KeyboardInterrupt
        replace(source, target)

    monkeypatch.setattr("os.replace", cut_off)
    with pytest.raises(KeyboardInterrupt):
        workdir.record_run(tmp_path, config.replace({"steps": 99}), ("a", "b"), (1, 2))
    assert (tmp_path / name).read_text() == before


def test_the_program_is_described(monkeypatch):
    monkeypatch.setattr(sys, "argv", ["train.py", "--config=a b.py"])
    described = provenance.describe_program()
    assert {"time", "command", "folder", "host", "process", "git", "versions"} == set(described)
    assert described["versions"]["python"].startswith(f"3.{sys.version_info.minor}")
    assert described["versions"]["jax"]
    assert described["command"].endswith(" train.py '--config=a b.py'")
    for program, typed in (
        ("/venv/bin/ssd-jax", "ssd-jax train --config=x"),
        (
            "/somewhere/ssd_jax/__main__.py",
            f"{Path(sys.executable).name} -m ssd_jax train --config=x",
        ),
    ):
        monkeypatch.setattr(sys, "argv", [program, "train", "--config=x"])
        assert provenance.describe_program()["command"] == typed


def test_the_revision_of_a_folder(tmp_path):
    assert provenance.git_revision(tmp_path) is None

    def git(*arguments):
        identity = ("-c", "user.name=a", "-c", "user.email=a@b")
        done = subprocess.run(
            ["git", *identity, *arguments], cwd=tmp_path, check=True, capture_output=True, text=True
        )
        return done.stdout.strip()

    git("init")
    (tmp_path / "file").write_text("1")
    git("add", "file")
    git("commit", "-m", "first")
    assert provenance.git_revision(tmp_path) == git("rev-parse", "HEAD")
    (tmp_path / "file").write_text("2")
    assert provenance.git_revision(tmp_path) == git("rev-parse", "HEAD") + "+changes"


@pytest.mark.parametrize(
    "name, fix",
    [
        ("config.json", "remove it and start the same training again"),
        ("classes.json", "remove it and start the same training again"),
        ("format.json", r'write {"format": \d+} into it'),
    ],
)
def test_a_truncated_file_of_a_run_is_reported_with_a_fix(name, fix, tmp_path):
    config = as_config(tiny.get_config())
    workdir.record_run(tmp_path, config, ("a", "b"), (1, 2))
    whole = (tmp_path / name).read_text()
    (tmp_path / name).write_text(whole[:-3])
    with pytest.raises(UserError, match=rf"{name} is not JSON.* Put back a copy of it, or {fix}"):
        check_same_config(tmp_path, config)
        workdir.check_classes(tmp_path, ("a", "b"))
    if name != "format.json":
        (tmp_path / name).unlink()
        assert not workdir.is_recorded(tmp_path)
        check_same_config(tmp_path, config)
        workdir.check_classes(tmp_path, ("a", "b"))
        workdir.record_run(tmp_path, config, ("a", "b"), (1, 2))
    assert (tmp_path / name).read_text() == whole or name == "format.json"


def test_a_run_on_another_folder_of_the_same_name_is_not_continued(tmp_path):
    config = as_config(tiny.get_config())
    first, second = tmp_path / "a" / "animals", tmp_path / "b" / "animals"
    first.mkdir(parents=True)
    run = tmp_path / "runs" / "animals"
    workdir.record_run(run, config.replace({"data.train": str(first)}), ["dog"], [1])
    with pytest.raises(UserError, match="a run on other data") as error:
        check_same_config(run, config.replace({"data.train": str(second)}))
    assert f"--workdir={run}_2" in str(error.value) and "--change_config" not in str(error.value)
