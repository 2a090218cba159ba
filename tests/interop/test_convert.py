"""Import and export of weights, as a user runs them."""

import json
import shutil

import jax
import numpy as np
import pytest
import safetensors.numpy

from ssd_jax import Detector
from ssd_jax.config.schema import as_config
from ssd_jax.errors import UserError
from ssd_jax.interop.export import export
from ssd_jax.interop.pytorch_layouts import ssd_pytorch_layout
from ssd_jax.interop.renaming import to_pytorch
from ssd_jax.interop.trained import load_folder, save_folder
from ssd_jax.models.network import build_network
from ssd_jax.runs.evaluate import EvaluationOptions, evaluate
from ssd_jax.runs.import_weights import import_weights
from ssd_jax.runs.initial_weights import initial_weights
from ssd_jax.runs.train import train
from ssd_jax.runs.trained import load_workdir
from tests import tiny
from tests.helpers.commands import run_command

pytestmark = pytest.mark.slow

NAMES = ("circle", "cross", "square", "star", "triangle")


def tiny_config():
    config = tiny.get_config()
    config.model.batch_norm = False
    config.steps = 2
    return config


def convert(command, *arguments, expect=0):
    return run_command(command, *arguments, expect=expect)


@pytest.fixture(scope="module")
def tensors():
    network = build_network(as_config(tiny_config()).model, len(NAMES))
    return to_pytorch(network.init(7), ssd_pytorch_layout(2), network.tiling.boxes_per_cell)


@pytest.mark.slow
def test_an_import_can_be_evaluated_and_trained_from(imported, tensors, tmp_path):
    assert len((imported / "weights.txt").read_text().splitlines()) == len(tensors)
    classes = json.loads((imported / "classes.json").read_text())
    assert classes[1] == {"id": 2, "name": "cross"}
    evaluate(tiny_config(), imported, options=EvaluationOptions(output=tmp_path / "results.json"))
    assert json.loads((tmp_path / "results.json").read_text())["num_images"] == 6

    config = tiny_config()
    config.init = f"run:{imported}"
    train(config, str(tmp_path / "new"))
    table = (tmp_path / "new" / "weights.txt").read_text()
    assert "background and 5 of 5 classes copied by name" in table and "new" not in table


@pytest.mark.slow
def test_the_config_can_name_the_classes(tensors, tmp_path):
    np.savez(tmp_path / "ssd.npz", **tensors)
    given = ("ssd.pytorch", str(tmp_path / "ssd.npz"))
    config = tiny_config()
    config.data.classes = "circle,cross,square,star,triangle,moon"
    with pytest.raises(UserError, match=r"has 5 classes, but 6 names .*config\.data\.classes"):
        import_weights(*given, config, str(tmp_path / "run"))
    assert not (tmp_path / "run").exists()
    config.data.classes = ",".join(NAMES)
    import_weights(*given, config, str(tmp_path / "run"))
    classes = json.loads((tmp_path / "run" / "classes.json").read_text())
    assert [entry["name"] for entry in classes] == list(NAMES)


def test_an_import_into_a_run_is_refused(imported):
    with pytest.raises(UserError, match="holds a run already"):
        import_weights("caffe", "x.caffemodel", tiny_config(), str(imported))


def test_a_backbone_alone_leaves_the_rest_new(tensors, tmp_path):
    backbone = {
        name.removeprefix("vgg."): tensor
        for name, tensor in tensors.items()
        if name.startswith("vgg.")
    }
    np.savez(tmp_path / "vgg.npz", **backbone)
    config = tiny_config()
    folder = str(tmp_path / "imported")
    import_weights("ssd.pytorch", str(tmp_path / "vgg.npz"), config, folder)
    network = build_network(as_config(config).model, len(NAMES))
    result = initial_weights(f"run:{folder}", network, 0, NAMES)
    for name, _, status in result.statuses:
        is_taken = name.startswith(("backbone/conv", "backbone/fc")) and "norm" not in name
        assert status == ("copied" if is_taken else "new: not in the weights")


def test_tensors_that_do_not_fit_are_listed_and_can_be_left_out(tensors, tmp_path):
    changed = dict(tensors, more=np.zeros(1))
    del changed["vgg.0.bias"]
    changed["vgg.2.bias"] = np.zeros(3)
    np.savez(tmp_path / "ssd.npz", **changed)
    arguments = ("ssd.pytorch", str(tmp_path / "ssd.npz"), tiny_config(), str(tmp_path / "run"))
    with pytest.raises(UserError) as error:
        import_weights(*arguments, class_names=NAMES)
    message = str(error.value)
    assert "missing: vgg.0.bias" in message and "left over: more" in message
    assert "of another shape: backbone/conv1_2/conv/bias (8; in the weights it is 3)" in message
    assert not (tmp_path / "run").exists()
    with pytest.raises(UserError, match=f"--classes names the class '{NAMES[0]}' twice"):
        import_weights(*arguments, class_names=[*NAMES[:-1], NAMES[0]])
    import_weights(*arguments, class_names=NAMES, partial=True)
    assert "more" in (tmp_path / "run" / "weights.txt").read_text()


@pytest.mark.parametrize(
    "kind, file, complaint",
    [
        ("magic", "x.npz", "--from is 'magic', but must be one of keras, ssd."),
        ("caffe", "/no/such.caffemodel", "cannot be read: it does not exist"),
        ("torchvision", "{other}", "holds nothing of the network"),
    ],
)
def test_mistakes_are_named(kind, file, complaint, tmp_path):
    np.savez(tmp_path / "other.npz", a=np.zeros(1))
    file = file.format(other=tmp_path / "other.npz")
    with pytest.raises(UserError, match=complaint):
        import_weights(kind, file, tiny_config(), str(tmp_path / "run"))


@pytest.mark.parametrize(
    "arguments, complaint",
    [
        (["import", "--output=x", "--config=tests/tiny.py"], "error: --from=… is missing"),
        (["export", "--output=x", "--workdir=x"], "error: --to=… is missing"),
        (["export", "--to=onnx", "--workdir=/no/such", "--output=x"], "error: /no/such is not the"),
        (
            ["export", "--to=onnx", "--output=x"],
            "error: name either --workdir, of a run, or --weig",
        ),
    ],
)
@pytest.mark.slow
def test_the_script_reports_missing_requirements(arguments, complaint):
    assert convert(*arguments, expect=1).stderr.startswith(complaint)


@pytest.fixture(scope="module")
def imported(tensors, tmp_path_factory):
    """A work directory with the tensors."""
    folder = tmp_path_factory.mktemp("imported")
    np.savez(folder / "ssd.npz", **tensors)
    convert(
        "import",
        "--from=ssd.pytorch",
        f"--input={folder / 'ssd.npz'}",
        "--config=tests/tiny.py",
        "--config.model.batch_norm=False",
        f"--output={folder / 'run'}",
        f"--classes={','.join(NAMES)}",
    )
    return folder / "run"


PICTURES = np.random.default_rng(3).integers(0, 256, (3, 64, 64, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def detections(imported):
    """The detections of the detector of the work directory."""
    found = Detector.from_workdir(imported)(list(PICTURES))
    assert all(len(one.scores) > 20 for one in found)
    return found


def test_import_and_export_are_exact(imported, tensors, tmp_path):
    export("ssd.pytorch", load_workdir(imported), str(tmp_path))
    out = safetensors.numpy.load_file(tmp_path / "model.safetensors")
    assert out.keys() == tensors.keys()
    for name, tensor in tensors.items():
        np.testing.assert_array_equal(out[name], tensor)
    # And in for the second time.
    again, file = tmp_path / "again", str(tmp_path / "model.safetensors")
    import_weights("ssd.pytorch", file, tiny_config(), str(again), class_names=NAMES)
    first, second = load_workdir(imported), load_workdir(again)
    jax.tree.map(np.testing.assert_array_equal, first.variables, second.variables)


@pytest.mark.slow
def test_a_shared_folder_detects_the_same(imported, detections, tmp_path):
    output = tmp_path / "shared"
    done = convert("export", "--to=safetensors", f"--workdir={imported}", f"--output={output}")
    assert done.stdout == f"{output}: written: config.json, model.safetensors\n"
    files = {path.name: path.stat().st_mode & 0o777 for path in (tmp_path / "shared").iterdir()}
    # To share: whoever may read one may read the other.
    assert files == dict.fromkeys(
        ("model.safetensors", "config.json", "SHA256SUMS"), files["config.json"]
    )
    again = tmp_path / "again"
    convert("export", "--to=safetensors", f"--weights={output}", f"--output={again}")
    for name in files:
        assert (again / name).read_bytes() == (tmp_path / "shared" / name).read_bytes()
    trained = load_folder(tmp_path / "shared")
    jax.tree.map(np.testing.assert_array_equal, trained.variables, load_workdir(imported).variables)
    assert trained.class_names == NAMES and trained.category_ids == (1, 2, 3, 4, 5)
    for ours, theirs in zip(
        Detector.from_pretrained(tmp_path / "shared")(list(PICTURES)), detections, strict=True
    ):
        np.testing.assert_array_equal(ours.boxes, theirs.boxes)
        assert ours.names == theirs.names


def test_runs_of_later_versions_are_refused(imported, tmp_path):
    later = tmp_path / "later"
    shutil.copytree(imported, later)
    (later / "format.json").write_text('{"format": 3}')
    with pytest.raises(UserError, match="has the format 3, of a later version of ssd_jax"):
        load_workdir(later)
    save_folder(load_workdir(imported), tmp_path / "shared")
    config = json.loads((tmp_path / "shared" / "config.json").read_text())
    (tmp_path / "shared" / "config.json").write_text(json.dumps(config | {"format": 3}))
    (tmp_path / "shared" / "SHA256SUMS").unlink()
    with pytest.raises(UserError, match="of a later version"):
        load_folder(tmp_path / "shared")


def test_damaged_folders_are_refused(imported, tmp_path):
    with pytest.raises(UserError, match=r"none does not exist$"):
        load_folder(tmp_path / "none")
    folder = tmp_path / "shared"
    save_folder(load_workdir(imported), folder)
    # Each is told from the other.
    with pytest.raises(UserError, match=r"is the work directory of a run, .* --workdir"):
        load_folder(imported)
    with pytest.raises(UserError, match="it is the folder of a detector, for --weights"):
        load_workdir(folder)
    whole = (folder / "model.safetensors").read_bytes()
    changed = whole[:-1] + bytes([whole[-1] ^ 1])
    (folder / "model.safetensors").write_bytes(changed)
    with pytest.raises(UserError, match=r"model.safetensors differs from its checksum"):
        load_folder(folder)
    (folder / "SHA256SUMS").unlink()  # as older versions wrote it
    for damaged in (b"", whole[:100], whole[:-5]):
        (folder / "model.safetensors").write_bytes(damaged)
        with pytest.raises(UserError, match="is not the folder of a detector, or it is damaged"):
            load_folder(folder)
    safetensors.numpy.save_file({"a": np.zeros(1)}, folder / "model.safetensors")
    with pytest.raises(UserError, match="does not have the network of"):
        load_folder(folder)


def test_exports_that_cannot_be_are_explained(imported, tmp_path):
    for kind, complaint in (
        ("magic", "--to is 'magic', but must be one of safetensors"),
        (
            "torchvision",
            "torchvision supports only SSD300 with VGG16 without batch norm, and",
        ),
    ):
        with pytest.raises(UserError, match=complaint):
            export(kind, load_workdir(imported), str(tmp_path / "out"))
        assert not (tmp_path / "out").exists()
