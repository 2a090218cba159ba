"""Importing weights as a user does."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from ssd_jax.interop.pytorch_layouts import ssd_pytorch_layout, to_pytorch
from ssd_jax.models.network import build_network
from tests import tiny

ROOT = Path(__file__).parents[1]
NAMES = ("circle", "cross", "square", "star", "triangle")


def run(script, *arguments, expect=0):
    done = subprocess.run(
        [
            sys.executable,
            script,
            *(["import"] if script == "convert.py" else []),
            "--config=tests/tiny.py",
            "--config.model.batch_norm=False",
            *map(str, arguments),
        ],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert done.returncode == expect, done.stderr
    assert "Traceback" not in done.stderr
    return done


@pytest.fixture(scope="module")
def tensors():
    config = tiny.get_config().model
    config.batch_norm = False
    network = build_network(config, len(NAMES))
    return to_pytorch(network.init(7), ssd_pytorch_layout(2), network.tiling.boxes_per_cell)


def test_an_import_can_be_evaluated_and_trained_from(tensors, tmp_path):
    np.savez(tmp_path / "ssd.npz", **tensors)
    workdir = tmp_path / "imported"
    arguments = ["--from=ssd.pytorch", f"--input={tmp_path / 'ssd.npz'}", f"--output={workdir}"]
    run("convert.py", *arguments, f"--classes={','.join(NAMES)}")
    assert len((workdir / "weights.txt").read_text().splitlines()) == len(tensors)
    classes = json.loads((workdir / "classes.json").read_text())
    assert classes[1] == {"id": 2, "name": "cross"}
    assert "mAP" in run("evaluate.py", f"--workdir={workdir}").stdout

    new = tmp_path / "new"
    run("train.py", f"--workdir={new}", f"--config.init=run:{workdir}", "--config.steps=2")
    table = (new / "weights.txt").read_text()
    assert "background and 5 of 5 classes taken over by name" in table and "new" not in table

    done = run("convert.py", *arguments, expect=1)
    assert "holds a run already" in done.stderr


def test_a_backbone_alone_leaves_the_rest_new(tensors, tmp_path):
    backbone = {
        name.removeprefix("vgg."): tensor
        for name, tensor in tensors.items()
        if name.startswith("vgg.")
    }
    np.savez(tmp_path / "vgg.npz", **backbone)
    workdir, new = tmp_path / "imported", tmp_path / "new"
    run(
        "convert.py", "--from=ssd.pytorch", f"--input={tmp_path / 'vgg.npz'}", f"--output={workdir}"
    )
    run("train.py", f"--workdir={new}", f"--config.init=run:{workdir}", "--config.steps=2")
    fates = dict(
        line.split(maxsplit=2)[::2] for line in (new / "weights.txt").read_text().splitlines()
    )
    for name, fate in fates.items():
        is_taken = name.startswith(("backbone/conv", "backbone/fc")) and "norm" not in name
        assert fate == ("taken over" if is_taken else "new: not in the weights")


def test_what_does_not_fit_is_listed_and_can_be_left_out(tensors, tmp_path):
    changed = dict(tensors, more=np.zeros(1))
    del changed["vgg.0.bias"]
    changed["vgg.2.bias"] = np.zeros(3)
    np.savez(tmp_path / "ssd.npz", **changed)
    arguments = [
        "--from=ssd.pytorch",
        f"--input={tmp_path / 'ssd.npz'}",
        f"--output={tmp_path / 'imported'}",
        f"--classes={','.join(NAMES)}",
    ]
    done = run("convert.py", *arguments, expect=1)
    line = done.stderr.splitlines()[-1]
    assert (
        line.startswith("error: ") and "missing: vgg.0.bias" in line and "left over: more" in line
    )
    assert "of another shape: backbone/conv1_2/conv/bias (8; in the weights it is 3)" in line
    assert not (tmp_path / "imported").exists()
    run("convert.py", *arguments, "--partial")
    assert "more" in (tmp_path / "imported" / "weights.txt").read_text()


@pytest.mark.parametrize(
    "arguments, complaint",
    [
        (["--from=magic", "--input=x.npz"], "--from is 'magic', but must be one of keras, ssd."),
        (["--from=caffe", "--input=/no/such.caffemodel"], "there is no such file"),
        (["--from=torchvision", "--input={other}"], "holds nothing of the network"),
    ],
)
def test_mistakes_end_in_one_line(arguments, complaint, tmp_path):
    np.savez(tmp_path / "other.npz", a=np.zeros(1))
    arguments = [argument.format(other=tmp_path / "other.npz") for argument in arguments]
    done = run("convert.py", *arguments, f"--output={tmp_path / 'new'}", expect=1)
    assert complaint in done.stderr.splitlines()[-1]
