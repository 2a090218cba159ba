"""The commands as a user runs them, with a config that trains in seconds."""

import json
import re

import jax
import numpy as np
import pytest

from ssd_jax.cli import evaluate as evaluate_command
from ssd_jax.config.schema import DataConfig, as_config
from ssd_jax.data.choice import open_training_data
from ssd_jax.data.training_batches import training_batches
from ssd_jax.errors import UserError
from ssd_jax.models.network import build_network
from ssd_jax.runs.evaluate import EvaluationOptions, evaluate, evaluate_file
from ssd_jax.runs.initial_weights import initial_weights
from ssd_jax.runs.train import train
from ssd_jax.runs.workdir import locked, read_class_names, read_config
from ssd_jax.storage.outputs import OF_A_RUN
from ssd_jax.training.checkpoints import Checkpoints
from tests import tiny
from tests.helpers import forked
from tests.helpers.commands import free_port, run_command, run_in_process, with_devices
from tests.helpers.pictures import VocFolder

pytestmark = pytest.mark.slow


def run(script, *arguments, expect=0):
    return run_command(script, "--config=tests/tiny.py", *arguments, expect=expect)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A work directory, and the output of its training."""
    workdir = tmp_path_factory.mktemp("runs") / "tiny"
    return workdir, run("train", f"--workdir={workdir}", "--config.loggers=tensorboard").stderr


@pytest.fixture(scope="module")
def workdir(trained):
    return trained[0]


def metrics(workdir):
    return [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]


def test_training_writes_the_files_of_the_readme(workdir):
    names = {path.name for path in workdir.iterdir()}
    assert names < OF_A_RUN and names == {
        "checkpoints",
        "classes.json",
        "config.json",
        "data.json",
        "format.json",
        "lock",
        "metrics.jsonl",
        "pictures",
        "starts.jsonl",
        "tensorboard",
    }
    (start,) = [json.loads(line) for line in (workdir / "starts.jsonl").read_text().splitlines()]
    assert start["step"] == 0 and "-m ssd_jax train --config=tests/tiny.py" in start["command"]
    assert start["devices"] == "1 × cpu" and "jax" in start["versions"]
    classes = json.loads((workdir / "classes.json").read_text())
    assert classes[0] == {"id": 1, "name": "circle"} and len(classes) == 5
    assert json.loads((workdir / "config.json").read_text())["batch_size"] == 4
    assert {path.name for path in (workdir / "checkpoints").iterdir()} == {"2", "4"}
    assert (workdir / "pictures" / "training.png").is_file()
    lines = metrics(workdir)[:2]
    assert [line["step"] for line in lines] == [2, 4]
    assert set(lines[0]) == {
        "step",
        "train/loss",
        "train/loc_loss",
        "train/conf_loss",
        "train/gradient_norm",
        "train/update_norm",
        "train/positives",
        "train/negatives",
        "train/objects_dropped",
        "train/updates_skipped",
        "train/learning_rate",
        "train/epoch",
        "train/images_per_second",
    }


def test_objects_beyond_the_limit_are_counted_and_reported(trained):
    workdir, printed = trained
    dropped = [line["train/objects_dropped"] for line in metrics(workdir)[:2]]
    assert all(count > 0 for count in dropped)
    assert f"{sum(dropped):.0f} boxes were left out" in printed


def test_the_time_to_the_first_step_is_reported(trained):
    (line,) = re.findall(r"first step after .*", trained[1])
    total, *parts = map(float, re.findall(r"[\d.]+(?= s)", line))
    assert len(parts) == 3 and all(parts) and total == pytest.approx(sum(parts), abs=0.2)


def test_a_restarted_run_continues_and_evaluates(workdir):
    changes = ("--config.steps=6", "--config.eval_every=6", "--config.loggers=tensorboard")
    longer = read_config(workdir).replace({"steps": 6, "eval_every": 6})
    with pytest.raises(UserError, match=r"config\.steps from 4 to 6.*--change_config"):
        train(longer, str(workdir))

    done = run("train", f"--workdir={workdir}", *changes, "--change_config")
    assert "continuing at step 4 of 6" in done.stderr
    lines = metrics(workdir)
    assert [line["step"] for line in lines] == [2, 4, 6, 6]
    assert 0 <= lines[-1]["eval/mAP"] <= 1
    assert (workdir / "pictures" / "detections.png").is_file()

    config = read_config(workdir)
    before = (workdir / "metrics.jsonl").read_bytes()
    train(config, str(workdir))  # there is nothing to do
    assert (workdir / "metrics.jsonl").read_bytes() == before
    with locked(workdir), pytest.raises(UserError, match="is in use by another process"):
        train(config, str(workdir))


def test_evaluate_prints_and_writes_the_same(workdir, tmp_path):
    output = tmp_path / "results.json"
    # The config is that of the run.
    done = run_command(
        "evaluate",
        f"--workdir={workdir}",
        "--checkpoint=2",
        "--source=shapes:test[:7]",
        "--flip",
        "--top_k=4",
        "--nms_threshold=0.3",
        "--score_threshold=0.02",
        f"--output={output}",
        f"--submission={tmp_path / 'detections'}",
        f"--report={tmp_path / 'report'}",
    )
    summary = json.loads(output.read_text())
    assert summary["num_images"] == 7 and summary["metric"] == "voc07"
    assert set(summary["AP_per_class"]) == {"circle", "cross", "square", "star", "triangle"}
    assert all(name in done.stdout for name in summary["AP_per_class"])
    for metric in (summary, summary["voc"], summary["coco"]):
        assert f"{metric['mAP']:.4f}" in done.stdout
    assert "7 images evaluated in" in done.stderr and "after the first batch" in done.stderr
    detections = json.loads((tmp_path / "detections" / "detections.json").read_text())
    of_image = [entry["image_id"] for entry in detections]
    assert 0 < max(map(of_image.count, of_image)) <= 4
    assert min(entry["score"] for entry in detections) > 0.02
    assert f"Evaluation of {workdir}" in (tmp_path / "report" / "index.html").read_text()

    # What was written gives the same numbers, without the network.
    again = tmp_path / "again.json"
    evaluate_file(
        DataConfig(eval="shapes:test[:7]"),
        tmp_path / "detections" / "detections.json",
        EvaluationOptions(output=again),
    )
    assert json.loads(again.read_text())["AP_per_class"] == pytest.approx(summary["AP_per_class"])


def test_a_run_can_start_from_one_with_other_classes(workdir, tmp_path):
    # The classes of the first run are circle, cross, square, star, triangle.
    pictures = VocFolder(tmp_path / "voc")
    for i in range(4):
        pictures.add(f"picture{i}", [("star", 6, 4, 30, 20), ("zebra", 20, 10, 50, 35)])
    source = pictures.split("all", *(f"picture{i}" for i in range(4)))
    new = tmp_path / "new"
    config = tiny.get_config()
    config.init = f"run:{workdir}"
    config.data.train = config.data.eval = source
    config.update(freeze="backbone/*", ema=0.9, accumulate=2)
    train(config, str(new))
    table = (new / "weights.txt").read_text()
    told = dict(line.split(maxsplit=2)[::2] for line in table.splitlines())
    assert told["backbone/fc6/conv/kernel"] == "copied"
    assert told["heads/logits/0/bias"] == "background and 1 of 2 classes copied by name"
    assert [entry["name"] for entry in json.loads((new / "classes.json").read_text())] == [
        "star",
        "zebra",
    ]

    def parameters(folder, averages):
        config = read_config(folder)
        network = build_network(config.model, len(read_class_names(folder)))
        checkpoints = Checkpoints(folder / "checkpoints", read_only=True)
        return checkpoints.restore_model(*network.variable_shapes(), averages=averages)[0]

    old, trained = parameters(workdir, averages=False), parameters(new, averages=True)
    jax.tree.map(np.testing.assert_array_equal, trained["backbone"], old["backbone"])
    changed = trained["extras"]["narrow"][0]["conv"]["kernel"]
    assert (changed != old["extras"]["narrow"][0]["conv"]["kernel"]).any()

    # Another run starts from its averages, and evaluation reads them.
    network = build_network(as_config(config).model, 2)
    third = initial_weights(f"run:{new}", network, 0, ("star", "zebra"))
    jax.tree.map(np.testing.assert_array_equal, third.variables[0], trained)
    evaluate(config, str(new), options=EvaluationOptions(output=tmp_path / "results.json"))
    assert set(json.loads((tmp_path / "results.json").read_text())["AP_per_class"]) == {
        "star",
        "zebra",
    }
    config.ema = 0.0
    with pytest.raises(UserError, match="model, ema, optimizer and freeze decide"):
        evaluate(config, str(new))


def test_evaluate_names_the_steps_there_are(workdir):
    with pytest.raises(UserError, match="no checkpoint of step 3, but of "):
        run_in_process(evaluate_command, f"--workdir={workdir}", "--checkpoint=3")


def test_mistakes_end_in_one_line(workdir, tmp_path):
    new = tmp_path / "new"
    done = run("train", f"--workdir={new}", "--config.batch_size=0", expect=1)
    assert done.stderr.splitlines()[-1].startswith("error: --config.batch_size is 0")
    with pytest.raises(UserError, match="is not the work directory of a run"):
        run_in_process(evaluate_command, f"--workdir={new}")

    for folder, field, value, complaint in (
        (new, "data.train", "voc_xml:/no/such:train", "/no/such does not exist"),
        (new, "init", "magic", "config.init is 'magic'"),
        (new, "freeze", "nothing/*", "config.freeze has the pattern 'nothing/*'"),
        (new, "accumulate", 3, "must be a multiple of 3 for the 1 devices in 3 parts"),
        (workdir, "data.classes", "a", "holds a run with the classes circle, cross"),
    ):
        config = tiny.get_config()
        config.update_from_flattened_dict({"steps": 6, field: value})  # as many as the run has
        with pytest.raises(UserError) as error:
            train(config, str(folder), change_config=True)
        assert complaint in str(error.value)

    config = tiny.get_config()
    config.data.classes = "circle,cross"
    with pytest.raises(UserError, match=r"names 2 classes .*was trained with 5 .*leave it empty"):
        evaluate(config, str(workdir))
    config.update(batch_size=0)
    with pytest.raises(UserError, match=r"config\.batch_size is 0"):
        evaluate(config, str(workdir))


def test_updates_that_are_not_finite_are_skipped_and_kept_for_inspection(tmp_path):
    config = tiny.get_config()
    # The first update makes the parameters so large that everything after it overflows.
    config.update(learning_rate=1e17, warmup_steps=0, optimizer="sgd", steps=9, checkpoint_every=1)
    config.update(on_nonfinite="skip", max_skipped=2)
    with pytest.raises(UserError) as error:
        train(config, str(tmp_path))
    message = str(error.value)
    assert "norm of the gradient nan" in message and "step 4: " in message
    assert "config.max_skipped is 2" in message
    assert "learning rate 1e+17" in message and str(tmp_path / "nonfinite" / "4") in message

    checkpoints = Checkpoints(tmp_path / "checkpoints", read_only=True)
    assert checkpoints.steps() == [1, 2, 3]
    assert checkpoints.restore_progress().skipped == 2
    shapes = build_network(as_config(config).model, 5).variable_shapes()
    first, third = (checkpoints.restore_model(*shapes, step=step) for step in (1, 3))
    jax.tree.map(np.testing.assert_array_equal, third, first)

    assert [line["train/updates_skipped"] for line in metrics(tmp_path)] == [1]
    assert np.isfinite(metrics(tmp_path)[0]["train/loss"])
    kept = tmp_path / "nonfinite" / "4"
    numbers = json.loads((kept / "numbers.json").read_text())
    assert numbers["step"] == 4
    assert ", ".join(numbers["image_id"]) in message
    batch = np.load(kept / "batch.npz")
    source = open_training_data(as_config(config))
    fourth = next(training_batches(as_config(config), source, config.batch_size, first_step=3))
    np.testing.assert_array_equal(batch["image"], fourth["image"])
    assert numbers["image_id"] == [name.decode() for name in fourth["image_id"]]
    assert (kept / "pictures.png").is_file()


@pytest.mark.multiprocess
def test_two_processes_evaluate_as_one(workdir, tmp_path):
    port = free_port()

    # Eight devices, of two processes, for six images; and one device in this process.
    output = tmp_path / "two.json"
    processes = [
        forked.start(
            [
                "evaluate.py",
                "--config=tests/tiny.py",
                f"--workdir={workdir}",
                "--checkpoint=4",
                f"--output={output}",
                f"--coordinator=127.0.0.1:{port}",
                "--num_processes=2",
                f"--process_id={index}",
            ],
            with_devices(4),
        )
        for index in range(2)
    ]
    for process in processes:
        _, errors = process.communicate(timeout=300)
        assert process.returncode == 0, errors
    alone = tmp_path / "one.json"
    evaluate(read_config(workdir), workdir, checkpoint=4, options=EvaluationOptions(output=alone))
    assert json.loads(output.read_text()) == json.loads(alone.read_text())
