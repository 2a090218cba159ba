"""Weights in and out, as a user moves them."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest
import safetensors.numpy
from PIL import Image

from ssd_jax import Detector
from ssd_jax.errors import UserError
from ssd_jax.interop.pytorch_layouts import ssd_pytorch_layout, to_pytorch
from ssd_jax.models.network import build_network
from ssd_jax.trained import load_folder, load_workdir, save_folder
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


def export(*arguments, expect=0):
    done = subprocess.run(
        [sys.executable, "convert.py", "export", *map(str, arguments)],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert done.returncode == expect, done.stderr
    assert "Traceback" not in done.stderr
    return done


@pytest.fixture(scope="module")
def imported(tensors, tmp_path_factory):
    """A work directory with the tensors."""
    folder = tmp_path_factory.mktemp("imported")
    np.savez(folder / "ssd.npz", **tensors)
    run(
        "convert.py",
        "--from=ssd.pytorch",
        f"--input={folder / 'ssd.npz'}",
        f"--output={folder / 'run'}",
        f"--classes={','.join(NAMES)}",
    )
    return folder / "run"


PICTURES = np.random.default_rng(3).integers(0, 256, (3, 64, 64, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def detections(imported):
    """What the detector of the work directory finds."""
    found = Detector.from_workdir(imported)(list(PICTURES))
    assert all(len(one.scores) > 20 for one in found)
    return found


def test_in_and_out_again_is_exact(imported, tensors, tmp_path):
    export("--to=ssd.pytorch", f"--workdir={imported}", f"--output={tmp_path}")
    out = safetensors.numpy.load_file(tmp_path / "model.safetensors")
    assert out.keys() == tensors.keys()
    for name, tensor in tensors.items():
        np.testing.assert_array_equal(out[name], tensor)
    # And in for the second time.
    again = tmp_path / "again"
    run(
        "convert.py",
        "--from=ssd.pytorch",
        f"--input={tmp_path / 'model.safetensors'}",
        f"--output={again}",
        f"--classes={','.join(NAMES)}",
    )
    first, second = load_workdir(imported), load_workdir(again)
    jax.tree.map(np.testing.assert_array_equal, first.variables, second.variables)


def test_a_shared_folder_detects_the_same(imported, detections, tmp_path):
    export("--to=safetensors", f"--workdir={imported}", f"--output={tmp_path / 'shared'}")
    files = {path.name for path in (tmp_path / "shared").iterdir()}
    assert files == {"model.safetensors", "config.json"}
    trained = load_folder(tmp_path / "shared")
    jax.tree.map(np.testing.assert_array_equal, trained.variables, load_workdir(imported).variables)
    assert trained.class_names == NAMES and trained.category_ids == (1, 2, 3, 4, 5)
    for ours, theirs in zip(
        Detector.from_pretrained(tmp_path / "shared")(list(PICTURES)), detections, strict=True
    ):
        np.testing.assert_array_equal(ours.boxes, theirs.boxes)
        assert ours.names == theirs.names


WITHOUT_THE_PACKAGE = """
import sys
import jax.export
import numpy as np
sys.modules["ssd_jax"] = None
exported = jax.export.deserialize(open(sys.argv[1], "rb").read())
pictures = np.load(sys.argv[2])
np.savez(sys.argv[3], **exported.call(pictures))
assert exported.call(pictures[:1])["boxes"].shape[0] == 1  # any number of pictures
"""


def test_stablehlo_runs_without_the_package(imported, detections, tmp_path):
    export("--to=stablehlo", f"--workdir={imported}", f"--output={tmp_path / 'hlo'}")
    classes = json.loads((tmp_path / "hlo" / "classes.json").read_text())
    assert [entry["name"] for entry in classes] == list(NAMES)
    np.save(tmp_path / "pictures.npy", PICTURES)
    (tmp_path / "program.py").write_text(WITHOUT_THE_PACKAGE)
    arguments = [tmp_path / "hlo" / "detector.stablehlo", tmp_path / "pictures.npy"]
    subprocess.run(
        [sys.executable, "program.py", *arguments, "found.npz"], cwd=tmp_path, check=True
    )
    with np.load(tmp_path / "found.npz") as found:
        for i, wanted in enumerate(detections):
            count = len(wanted.scores)
            assert (found["labels"][i] > 0).sum() == count
            np.testing.assert_allclose(found["scores"][i][:count], wanted.scores, atol=1e-5)
            np.testing.assert_allclose(found["boxes"][i][:count] * 64, wanted.boxes, atol=1e-2)


def test_onnx_computes_the_same(imported, tmp_path):
    onnxruntime = pytest.importorskip("onnxruntime")
    pytest.importorskip("jax2onnx")
    export("--to=onnx", f"--workdir={imported}", f"--output={tmp_path}")
    session = onnxruntime.InferenceSession(tmp_path / "network.onnx")
    (name,) = (given.name for given in session.get_inputs())
    outputs = session.run(None, {name: PICTURES[:1]})
    trained = load_workdir(imported)
    images = trained.network.normalise(PICTURES[:1])
    wanted, _ = trained.network.apply(*trained.variables, images, train=False)
    for ours, theirs in zip(outputs, wanted, strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-4 * np.abs(theirs).max())
    boxes = np.load(tmp_path / "default_boxes.npy")
    np.testing.assert_array_equal(boxes, trained.network.default_boxes())


def test_runs_of_later_versions_are_refused(imported, tmp_path):
    later = tmp_path / "later"
    shutil.copytree(imported, later)
    (later / "format.json").write_text('{"format": 2}')
    done = export("--to=safetensors", f"--workdir={later}", f"--output={tmp_path}", expect=1)
    assert "has the format 2, of a later version of ssd_jax" in done.stderr
    save_folder(load_workdir(imported), tmp_path / "shared")
    config = json.loads((tmp_path / "shared" / "config.json").read_text())
    (tmp_path / "shared" / "config.json").write_text(json.dumps(config | {"format": 2}))
    with pytest.raises(UserError, match="of a later version"):
        load_folder(tmp_path / "shared")


def test_damaged_folders_are_refused(imported, tmp_path):
    with pytest.raises(UserError, match="is not the folder of a detector"):
        load_folder(tmp_path / "none")
    folder = tmp_path / "shared"
    save_folder(load_workdir(imported), folder)
    whole = (folder / "model.safetensors").read_bytes()
    for damaged in (b"", whole[:100], whole[:-5]):
        (folder / "model.safetensors").write_bytes(damaged)
        with pytest.raises(UserError, match="is not the folder of a detector, or it is damaged"):
            load_folder(folder)
    safetensors.numpy.save_file({"a": np.zeros(1)}, folder / "model.safetensors")
    with pytest.raises(UserError, match="does not hold the network that"):
        load_folder(folder)


def test_exports_that_cannot_be_are_explained(imported, tmp_path):
    for kind, complaint in (
        ("magic", "--to is 'magic', but must be one of safetensors"),
        (
            "torchvision",
            "torchvision has a place for an SSD300 with VGG16 without batch norm alone",
        ),
    ):
        done = export(
            f"--to={kind}", f"--workdir={imported}", f"--output={tmp_path / 'out'}", expect=1
        )
        assert complaint in done.stderr
        assert not (tmp_path / "out").exists()
    assert "export needs --to" in export(f"--workdir={imported}", expect=1).stderr


def test_the_detector_takes_pictures_of_all_kinds(imported, tmp_path):
    detector = Detector.from_workdir(imported)
    random = np.random.default_rng(0)
    small = random.integers(0, 256, (5, 8, 3), dtype=np.uint8)
    picture = np.asarray(Image.fromarray(small).resize((80, 50)))
    Image.fromarray(picture).save(tmp_path / "a.png")
    wanted = detector(picture)
    assert wanted.boxes[:, 2].max() > 64 and wanted.boxes[:, 2].max() <= 80
    assert wanted.boxes[:, 3].max() <= 50
    for other in (str(tmp_path / "a.png"), tmp_path / "a.png", Image.fromarray(picture)):
        np.testing.assert_array_equal(detector(other).boxes, wanted.boxes)
    first, second = detector([picture, PICTURES[0]], score_threshold=0.3)
    assert len(first.scores) < len(wanted.scores) and (first.scores >= 0.3).all()
    np.testing.assert_allclose(first.scores, wanted.scores[: len(first.scores)], rtol=1e-4)
    assert len(second.names) == len(second.labels)
    # Turned by a flag, as cameras do.
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(np.rot90(picture)).save(tmp_path / "turned.png", exif=exif)
    np.testing.assert_array_equal(detector(tmp_path / "turned.png").boxes, wanted.boxes)
    assert detector([]) == []


@pytest.mark.parametrize(
    "picture, complaint",
    [
        (np.zeros((4, 4, 3)), r"an array of float64 and shape \(4, 4, 3\), but must be uint8"),
        (np.zeros((4, 4), np.uint8), r"shape \(4, 4\), but must be"),
        ("/no/such.jpg", "/no/such.jpg cannot be read"),
    ],
)
def test_other_things_are_refused(imported, picture, complaint):
    with pytest.raises(UserError, match=complaint):
        Detector.from_workdir(imported)(picture)
