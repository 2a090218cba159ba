import contextlib
import json
import os
import socket
from pathlib import Path
from types import SimpleNamespace

import pytest

from ssd_jax import Detector
from ssd_jax.cli.main import command_module
from ssd_jax.config.schema import DataConfig, as_config
from ssd_jax.data.sources import open_dataset
from ssd_jax.diagnostics import check_data, fit_plot, show_data
from ssd_jax.errors import UserError
from ssd_jax.inference.predict import predict
from ssd_jax.interop.export import export
from ssd_jax.interop.trained import load_folder, save_folder
from ssd_jax.runs.evaluate import EvaluationOptions, compare_files, evaluate, evaluate_file
from ssd_jax.runs.import_weights import import_weights
from ssd_jax.runs.initial_weights import initial_weights
from ssd_jax.runs.sweep import sweep
from ssd_jax.runs.train import train
from ssd_jax.runs.trained import load_workdir
from ssd_jax.storage import files
from ssd_jax.storage.files import (
    append_json_line,
    local_path,
    read_json,
    read_json_lines,
    write_json,
    write_text,
)
from ssd_jax.storage.outputs import check_outputs
from ssd_jax.storage.replacing import replacing
from tests import tiny
from tests.helpers.commands import run_command, run_in_process
from tests.helpers.random_detector import random_trained

UNKNOWN = "hdfs://bucket/run"
GS = "gs://bucket/run"  # refused where only local paths are of use
CONFIG = as_config(tiny.get_config())
DATA = DataConfig(eval="shapes:test[:2]")

# Everything that takes a path from a user, with one of each.
DOORS = {
    "train": lambda place: train(CONFIG, place),
    "config.init run": lambda place: initial_weights(
        f"run:{place}", random_trained().network, 0, ("a",)
    ),
    "config.init file": lambda place: initial_weights(
        f"torchvision:{place}.npz", random_trained().network, 0, ("a",)
    ),
    "config.init keras": lambda place: initial_weights(
        f"keras:{place}.h5", random_trained().network, 0, ("a",)
    ),
    "config.data.train": lambda place: open_dataset(f"voc_xml:{place}:train"),
    "coco annotations": lambda place: open_dataset(f"coco_json:{place}.json:/pictures"),
    "coco images": lambda place: open_dataset(f"coco_json:/instances.json:{place}"),
    "one of several data sets": lambda place: open_dataset(
        f"shapes:test[:2],voc_xml:{place}:train"
    ),
    "sweep": lambda place: sweep([("tiny", CONFIG)], place),
    "load_workdir": lambda place: load_workdir(place),
    "from_workdir": lambda place: Detector.from_workdir(place),
    "from_pretrained": lambda place: Detector.from_pretrained(place),
    "load_folder": lambda place: load_folder(Path(place)),
    "save_folder": lambda place: save_folder(random_trained(), place),
    "export": lambda place: export("safetensors", random_trained(), place),
    "import": lambda place: import_weights("torchvision", "x.npz", CONFIG, place),
    "import from": lambda place: import_weights("torchvision", f"{place}.npz", CONFIG, "new"),
    "evaluate": lambda place: evaluate(CONFIG, place),
    "evaluate output": lambda place: evaluate(CONFIG, "x", options=EvaluationOptions(output=place)),
    "evaluate report": lambda place: evaluate(CONFIG, "x", options=EvaluationOptions(report=place)),
    "evaluate submission": lambda place: evaluate(
        CONFIG, "x", options=EvaluationOptions(submission=place)
    ),
    "evaluate detections": lambda place: evaluate_file(DATA, place),
    "compare": lambda place: compare_files(DATA, [place, place]),
    "predict": lambda place: predict(SimpleNamespace(class_names=("a",)), ["x.jpg"], place),
    "predict input": lambda place: predict(
        SimpleNamespace(class_names=("a",)), [f"{place}.jpg"], "out"
    ),
    "check-data": lambda place: check_data.check_data("shapes:test[:2]", (), place),
    "show-data": lambda place: show_data.show_training_images(CONFIG, place, 1),
    "fit-boxes": lambda place: fit_plot.plot({}, place),
}


LOCAL_ALONE = ("sweep", "check-data", "show-data", "fit-boxes")


@pytest.mark.parametrize(
    "door, place", [*((door, UNKNOWN) for door in DOORS), *((door, GS) for door in LOCAL_ALONE)]
)
def test_a_path_with_a_scheme_is_refused_before_anything_is_written(
    door, place, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    scheme = place.partition(":")[0]
    refused = f"{scheme}:/+bucket/run.* begins with {scheme}://, but only local"
    with pytest.raises(UserError, match=refused):
        DOORS[door](place)
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize(
    "place", ["s3://b/x", "file:///home/x", "GS://b", "hdfs://n:8020/x", "gs:/bucket/x"]
)
def test_every_scheme_is_named(place):
    with pytest.raises(UserError, match=rf"^{place} begins with {place.partition(':')[0]}://"):
        local_path(place)


@pytest.mark.parametrize("place", ["runs/a", "/a:/b", r"C:\runs", "C:/runs", "a:b", "12:30"])
def test_local_paths_are_unchanged(place):
    assert local_path(place) == Path(place) == local_path(Path(place))


def test_a_file_is_replaced_as_a_whole(tmp_path, monkeypatch):
    file = tmp_path / "numbers.json"
    write_json(file, {"a": [1, 2]})
    assert file.read_text() == '{\n  "a": [\n    1,\n    2\n  ]\n}\n'

    def fail(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(KeyboardInterrupt):
        write_text(file, "other")
    assert read_json(file) == {"a": [1, 2]}


def test_writing_keeps_links_and_devices(tmp_path):
    (tmp_path / "link").symlink_to(tmp_path / "file")
    write_text(tmp_path / "link", "ä")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "file").read_bytes() == "ä".encode()
    os.mkfifo(tmp_path / "pipe")
    reader = os.open(tmp_path / "pipe", os.O_RDONLY | os.O_NONBLOCK)
    write_text(tmp_path / "pipe", "through")
    assert os.read(reader, 100) == b"through"
    os.close(reader)
    assert (tmp_path / "pipe").is_fifo()


def test_lines_of_json(tmp_path):
    file = tmp_path / "lines.jsonl"
    assert read_json_lines(file) == []
    append_json_line(file, {"step": 1})
    append_json_line(file, {"step": 2})
    with file.open("a") as opened:
        opened.write('{"step": 3')
    assert read_json_lines(file) == [{"step": 1}, {"step": 2}]
    assert json.loads(file.read_text().splitlines()[0]) == {"step": 1}


def test_files_that_are_not_json_are_reported(tmp_path):
    file = tmp_path / "x.json"
    with pytest.raises(UserError, match=r"x\.json does not exist"):
        read_json(file)
    for content in (b"{", b"\xff", b""):
        file.write_bytes(content)
        with pytest.raises(UserError, match=r"x\.json is not (JSON|a text file)"):
            read_json(file)


@pytest.mark.parametrize("flag", ["profile", "output", "chart"])
def test_a_benchmark_refuses_such_a_path_before_it_measures(flag):
    arguments = ["benchmark", "train", "--config=tests/tiny.py", f"--{flag}={GS}"]
    done = run_command(*arguments, expect=1)
    assert done.stderr.startswith(f"error: {GS} begins with gs://")


COMMANDS = {
    "train": ["--config=ftp://host/x.py", "--workdir=new"],
    "sweep": ["--configs=ftp://host/x.py", "--workdir=new"],
    "export": ["--to=web", "--workdir=nowhere", "--output=ftp://host/x"],
    "predict": ["--weights=nowhere", "--output=new", "ftp://host/x.mp4"],
    "import": ["--from=torchvision", "--config=ssd300_voc", "--input=ftp://host/x.pth"],
}


@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_refuses_such_a_path_before_anything_is_read(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    arguments = COMMANDS[name] + (["--output=new"] if name == "import" else [])
    with pytest.raises(UserError, match=r"ftp://host/x.* begins with ftp://, but"):
        run_in_process(command_module(name), *arguments)
    assert not any(tmp_path.iterdir())


def test_an_empty_path_is_refused():
    for door in (lambda: train(CONFIG, ""), lambda: load_workdir(""), lambda: local_path("")):
        with pytest.raises(UserError, match="a path is empty"):
            door()


def test_an_unexpanded_home_folder_is_rejected():
    for door in (
        lambda: train(CONFIG, "~/run"),
        lambda: check_outputs("~"),
        lambda: local_path("~/a"),
    ):
        with pytest.raises(UserError, match=r"^~\S* begins with ~: write \$HOME instead"):
            door()


def test_an_interrupted_write_leaves_the_old_file(tmp_path):
    file = tmp_path / "file.txt"
    write_text(file, "before")
    with pytest.raises(KeyboardInterrupt), replacing(file) as unfinished:
        unfinished.write_text("half")
        raise KeyboardInterrupt
    assert file.read_text() == "before" and list(tmp_path.iterdir()) == [file]


def special_file(kind: str, path: Path) -> None:
    """Makes a special file: not a regular one."""
    if kind == "fifo":
        os.mkfifo(path)
    elif kind == "socket":
        with contextlib.chdir(path.parent), socket.socket(socket.AF_UNIX) as listening:
            listening.bind(path.name)
    elif kind == "folder":
        path.mkdir()
    else:
        path.symlink_to("/dev/zero")


@pytest.mark.parametrize("linked", [False, True], ids=["itself", "link"])
@pytest.mark.parametrize(
    "kind, name",
    [("fifo", "a FIFO"), ("socket", "a socket"), ("folder", "a folder"), ("device", "a device")],
)
def test_only_regular_files_are_opened(kind, name, linked, tmp_path):
    special_file(kind, tmp_path / "file")
    place = tmp_path / "file"
    if linked:
        (tmp_path / "link").symlink_to(place)
        place = tmp_path / "link"
    with pytest.raises(OSError, match=f"it is {name}, but only regular files are read"):
        files.open_file(place)
    for read in (files.read_text, files.read_json, lambda path: list(files.read_lines(path))):
        with pytest.raises(UserError, match=f"cannot be read: it is {name}"):
            read(place)
    assert files.read_beginning(place, 10) == ""


def test_links_to_regular_files_are_read(tmp_path):
    (tmp_path / "file").write_bytes(b"content")
    (tmp_path / "link").symlink_to("file")
    assert files.read_bytes(tmp_path / "link") == b"content"


def test_files_beyond_a_limit_are_not_read(tmp_path):
    with (tmp_path / "file").open("wb") as file:
        file.truncate(2**40)  # takes no place
    with pytest.raises(OSError, match="it has 1,099,511,627,776 bytes, more than the 1,000"):
        files.read_bytes(tmp_path / "file", 1000)


def test_a_line_that_is_too_long_is_reported(tmp_path, monkeypatch):
    monkeypatch.setattr(files, "MAX_LINE", 8)
    (tmp_path / "file").write_text("short\nfar too long\n")
    lines = files.read_lines(tmp_path / "file")
    assert next(lines) == "short"
    with pytest.raises(UserError, match=r"file has a line of more than 8 characters$"):
        next(lines)
