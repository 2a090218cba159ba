"""Object stores: copies of objects, results in a store, work directories."""

import dataclasses
import datetime
import json
import re
import signal
import sys

import jax
import numpy as np
import pytest

from ssd_jax import Detector
from ssd_jax.config.schema import as_config
from ssd_jax.errors import Interrupted, UserError
from ssd_jax.inference.predict import predict
from ssd_jax.interop.export import export
from ssd_jax.interop.trained import load_folder
from ssd_jax.runs.evaluate import EvaluationOptions, evaluate
from ssd_jax.runs.import_weights import import_weights
from ssd_jax.runs.stores import run_copy, steps_at, training_copy
from ssd_jax.runs.train import train
from ssd_jax.runs.trained import load_workdir
from ssd_jax.storage import clients, clouds, mirror, ranges
from ssd_jax.storage.copies import copy_place, local_copy, sending
from ssd_jax.storage.mirror import OWNED_SECONDS, OWNER, Mirror
from ssd_jax.storage.outputs import check_outputs
from ssd_jax.training.metrics_writer import read_metrics
from tests import tiny
from tests.helpers.processes import run_together
from tests.helpers.random_detector import random_trained
from tests.helpers.stores import failing_stores

BUCKETS = ["gs://bucket", "s3://bucket"]


@pytest.fixture(params=BUCKETS)
def place(request, stores, tmp_path, monkeypatch):
    """A separate place in each store; nothing may be written into the current folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(mirror, "SETTLING_SECONDS", 0.0)
    yield f"{request.param}/{tmp_path.name}"
    assert not any(tmp_path.iterdir())


def names(place):
    return sorted(clouds.objects_at(place))


def test_only_changed_files_are_copied_again(place, monkeypatch):
    clouds.write(f"{place}/a.txt", b"1")
    clouds.write(f"{place}/inner/b.txt", b"2")
    copy = local_copy(place)
    assert (copy / "a.txt").read_bytes() == b"1" and (copy / "inner/b.txt").read_bytes() == b"2"
    fetched = []
    fetch = clouds.fetch
    monkeypatch.setattr(
        clouds, "fetch", lambda *given: (fetched.extend(given[2]), fetch(*given))[1]
    )
    clouds.write(f"{place}/a.txt", b"3")
    clouds.write(f"{place}/c.txt", b"4")
    clouds.remove(place, ["inner/b.txt"])
    assert local_copy(place) == copy and sorted(fetched) == ["a.txt", "c.txt"]
    files = {file.name: file.read_bytes() for file in copy.rglob("*.txt")}
    assert files == {"a.txt": b"3", "c.txt": b"4"}
    assert local_copy(f"{place}/a.txt").read_bytes() == b"3"


def test_an_object_that_is_written_again_has_another_mark():
    seconds = [datetime.datetime.fromtimestamp(second, datetime.UTC) for second in (0, 1)]
    s3 = [clouds._mark({"ETag": '"x"', "LastModified": second}) for second in seconds]
    gs = [clouds._mark({"etag": "x", "generation": number}) for number in ("1", "2")]
    assert len(set(s3)) == len(set(gs)) == 2 and clouds._mark({}) == ""


def test_results_are_sent_whole_with_the_checksums_last_or_not_at_all(place, monkeypatch):
    sent = []
    send = clouds.send
    monkeypatch.setattr(clouds, "send", lambda *given: (sent.append(given[2]), send(*given))[1])
    with sending(place) as folder:
        folder.mkdir()
        for name in ("SHA256SUMS", "z.txt"):
            (folder / name).write_text(name)
    assert sent == [["z.txt"], ["SHA256SUMS"]]
    with pytest.raises(KeyboardInterrupt), sending(place) as folder:
        assert not folder.exists()
        folder.mkdir()
        (folder / "half.txt").touch()
        raise KeyboardInterrupt
    assert names(place) == ["SHA256SUMS", "z.txt"]


def test_wrong_places_give_one_line(place, monkeypatch):
    scheme = place.partition("://")[0]
    with pytest.raises(UserError, match=f"there is no bucket nothing .* {scheme}://nothing/`"):
        local_copy(f"{scheme}://nothing/a")
    with pytest.raises(UserError, match=f"{place}/none does not exist"):
        local_copy(f"{place}/none")
    with pytest.raises(UserError, match=r"has a part that is empty, \. or \.\."):
        local_copy(f"{place}/../other")
    with pytest.raises(UserError, match="names no bucket"):
        local_copy(f"{scheme}://")
    refused = f"{place} cannot be reached: Forbidden; give credentials that"
    with pytest.raises(UserError, match=refused), clouds.answering(place):
        raise PermissionError("Forbidden")
    ranges.forget_clients()
    monkeypatch.setitem(sys.modules, clients.PACKAGES[scheme], None)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    extra = {"gs": "gcs", "s3": "s3"}[scheme]
    with pytest.raises(UserError, match=re.escape(f"pip install -e '.[{extra}]'")):
        local_copy(place)


def test_a_detector_is_exported_to_a_store_and_read_there(place, tmp_path_factory):
    trained = random_trained()
    export("safetensors", trained, f"{place}/detector")
    assert names(f"{place}/detector") == ["SHA256SUMS", "config.json", "model.safetensors"]
    again = load_folder(f"{place}/detector")
    jax.tree.map(np.testing.assert_array_equal, trained.variables, again.variables)
    export("stablehlo", trained, f"{place}/detector")  # beside the first one
    assert "detector.stablehlo" in names(f"{place}/detector")
    listed = (clouds.read(f"{place}/detector/SHA256SUMS") or b"").decode()
    assert [line.split()[1] for line in listed.splitlines()] == [
        "classes.json",
        "config.json",
        "detector.stablehlo",
        "model.safetensors",
    ]
    load_folder(f"{place}/detector")
    clouds.write(f"{place}/detector/model.safetensors", b"damaged")
    with pytest.raises(UserError, match=f"^{place}/detector is damaged: model.safetensors differs"):
        load_folder(f"{place}/detector")


@pytest.mark.parametrize("place", BUCKETS[:1], indirect=True)
def test_pictures_are_read_and_detections_written_there(place):
    export("safetensors", random_trained(), f"{place}/detector")
    detector = Detector.from_pretrained(f"{place}/detector")
    source = copy_place(f"{place}/x", "out").with_name("images")
    source.mkdir(parents=True)
    from PIL import Image

    for name in ("a.png", "b.png"):
        Image.new("RGB", (40, 30)).save(source / name)
    clouds.send(source, f"{place}/images", ["a.png", "b.png"])
    done = predict(detector, [f"{place}/images"], f"{place}/found")
    assert done.images == 2 and not done.failed
    assert names(f"{place}/found") == ["annotated/a.png", "annotated/b.png", "detections.json"]
    assert predict(detector, [f"{place}/images/b*.png"], f"{place}/one").images == 1
    with pytest.raises(UserError, match="is inside the input"):
        predict(detector, [place], f"{place}/found")


def config_with(data, **fields):
    """The smallest config, with these images."""
    config = as_config(tiny.get_config())
    named = {"data.train": f"{data}/train", "data.eval": f"{data}/val", "data.classes": ""}
    return config.replace({**named, "eval_every": 2, **fields})


@pytest.fixture(scope="module")
def run(pictures):
    """A run in a store that was killed after step 2, and continued to step 4.

    Its images are there, too. Every tenth request to the store failed.
    """
    place = "s3://bucket/run"
    patch = pytest.MonkeyPatch()
    patch.setattr(mirror, "SETTLING_SECONDS", 0.0)
    config = config_with("s3://bucket/pictures")
    with failing_stores(every=10) as (_, amazon):
        train(config.replace({"steps": 2}), place)
        first = {name: clouds.read(f"{place}/{name}") for name in names(place)}
        # A checkpoint that was half sent, and an owner that was not heard of for long.
        clouds.write(f"{place}/checkpoints/3/model/manifest.ocdbt", b"half")
        result = train(config.replace({"steps": 4}), place, change_config=True)
    assert amazon.refused > 10
    yield place, first, result
    patch.undo()


def test_a_run_continues_from_its_store(run):
    place, first, result = run
    assert {"config.json", "metrics.jsonl", "starts.jsonl", "format.json"} <= first.keys()
    assert "pictures/training.png" in first
    assert steps_at(place) == [2, 4] and "checkpoints/3/model/manifest.ocdbt" not in names(place)
    assert OWNER not in names(place)
    lines = clouds.read(f"{place}/metrics.jsonl")
    assert lines.startswith(first["metrics.jsonl"]) and len(lines) > len(first["metrics.jsonl"])
    assert len(clouds.read(f"{place}/starts.jsonl").splitlines()) == 2
    assert sorted(result.metrics) == [2, 4]


def test_a_run_in_a_store_where_requests_fail_equals_that_of_a_disk(
    run, pictures, tmp_path, monkeypatch
):
    monkeypatch.setattr(mirror, "SETTLING_SECONDS", 0.0)
    place, _, _ = run
    google = "gs://bucket/run"
    train(config_with(pictures), tmp_path / "run")
    with failing_stores(every=10) as (proxy, _):
        train(config_with("gs://bucket/pictures", steps=2), google)
    assert proxy.refused > 10

    def numbers(folder):
        """The losses and the mAP."""
        keys = ("train/loss", "eval/mAP")
        return [line[key] for line in read_metrics(folder) for key in keys if key in line]

    for step, there in ((4, place), (2, google)):
        variables = [load_workdir(each, step).variables for each in (tmp_path / "run", there)]
        jax.tree.map(np.testing.assert_array_equal, *variables)
    assert len(numbers(tmp_path / "run")) == 4
    assert numbers(tmp_path / "run") == numbers(run_copy(place))
    assert numbers(tmp_path / "run")[:2] == numbers(run_copy(google))


def test_a_run_is_evaluated_and_exported_from_its_store(run):
    place, _, _ = run
    config = config_with("s3://bucket/pictures")
    options = EvaluationOptions(output=f"{place}_numbers.json", submission=f"{place}_sent")
    summary = evaluate(config, place, checkpoint="last", options=options)
    assert json.loads(clouds.read(f"{place}_numbers.json"))["mAP"] == summary["mAP"]
    assert "detections.json" in names(f"{place}_sent")
    for output in (place, f"{place}/metrics.jsonl"):
        with pytest.raises(UserError, match="would replace files of the run"):
            dataclasses.replace(options, output=output)
    check_outputs(f"{place}/other.json", also_remote=True)
    with pytest.raises(UserError, match="would replace files of the run"):
        import_weights("torchvision", "x.npz", config, place)


def test_one_process_at_a_time_owns_a_place(place, tmp_path_factory, monkeypatch):
    folder = tmp_path_factory.mktemp("run")
    first = Mirror(folder, place)
    with pytest.raises(UserError, match=r"is in use by another process \(number \d+ on .*again in"):
        Mirror(folder, place)
    with pytest.raises(UserError, match="in use"), training_copy(place):
        pass
    monkeypatch.setattr(clouds, "age_of", lambda place: OWNED_SECONDS + 1)
    second = Mirror(folder, place)
    monkeypatch.setattr(mirror, "HEARTBEAT_SECONDS", 0.01)
    first.start()
    first._thread.join()
    with pytest.raises(UserError, match="was taken over by another process"):
        first.check()
    (folder / "late.txt").touch()
    first.end()  # leaves the place to the other
    assert names(place) == [OWNER]
    second.check()
    second.end()
    assert names(place) == ["late.txt"]


def test_a_signal_while_the_last_files_are_sent_keeps_them(place, tmp_path_factory, monkeypatch):
    before = signal.getsignal(signal.SIGINT)
    kept = tmp_path_factory.mktemp("kept")
    monkeypatch.setattr("tempfile.tempdir", str(kept))
    with (
        pytest.raises(Interrupted, match=f"^Ctrl-C: .* sent to {place}; .* are kept in {kept}/"),
        training_copy(place) as (folder, _),
    ):
        (folder / "weights").write_text("of the last step")
        monkeypatch.setattr(clouds, "send", lambda *given: signal.raise_signal(signal.SIGINT))
    (run,) = kept.glob("ssd_jax_run_*/*")
    assert (run / "weights").read_text() == "of the last step"
    assert signal.getsignal(signal.SIGINT) is before


TWO = """
    from pathlib import Path
    from ssd_jax.runs.stores import training_copy
    with training_copy("gs://bucket/two") as (folder, hooks):
        exchange.from_main_process(1)  # the main process has claimed the place
        print(Path(folder).exists(), len(hooks))
        if index == 0:
            (Path(folder) / "config.json").write_text("written by process 0")
    devices.leave_together()
"""


@pytest.mark.multiprocess
def test_only_the_main_process_has_the_copy():
    for each, said in zip(run_together(TWO), ("True 1\n", "False 1\n"), strict=True):
        assert each.returncode == 0 and each.stdout == said, each.stderr
    assert clouds.read("gs://bucket/two/config.json") == b"written by process 0"
    assert names("gs://bucket/two") == ["config.json"]


def test_checkpoints_are_removed_after_new_ones_are_there(place, tmp_path_factory, monkeypatch):
    folder = tmp_path_factory.mktemp("run")

    def save(step):
        inside = folder / "checkpoints" / str(step)
        inside.mkdir(parents=True)
        for name in ("SHA256SUMS", "model"):
            (inside / name).write_text(name)

    kept = Mirror(folder, place)
    save(1)
    kept.copy()
    calls = []
    for name in ("send", "remove"):
        call = getattr(clouds, name)

        def noted(*given, call=call, name=name):
            calls.extend((name, each) for each in given[-1])
            call(*given)

        monkeypatch.setattr(clouds, name, noted)
    save(2)
    for file in (folder / "checkpoints/1").iterdir():
        file.unlink()
    kept.end()
    assert calls == [
        ("send", "checkpoints/2/model"),
        ("send", "checkpoints/2/SHA256SUMS"),
        ("remove", "checkpoints/1/SHA256SUMS"),
        ("remove", "checkpoints/1/model"),
        ("remove", OWNER),
    ]
