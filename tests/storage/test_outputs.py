import os
from types import SimpleNamespace

import pytest

from ssd_jax.config.schema import as_config
from ssd_jax.data.convert import convert_data
from ssd_jax.diagnostics import check_data, show_data
from ssd_jax.errors import UserError
from ssd_jax.inference.export import check_target
from ssd_jax.inference.page.exported import export_page
from ssd_jax.inference.predict import predict
from ssd_jax.interop.export import export
from ssd_jax.runs.evaluate import EvaluationOptions
from ssd_jax.runs.import_weights import import_weights
from ssd_jax.runs.train import train
from ssd_jax.storage.outputs import (
    check_json_file,
    check_no_input_replaced,
    check_outputs,
    check_picture_file,
)
from tests import tiny
from tests.helpers.random_detector import random_trained

CONFIG = as_config(tiny.get_config())
SHAPES = "shapes:test[:2]"

# Everything that writes results, to a file or folder of a run.
OUTPUTS = {
    "evaluate output": lambda run: EvaluationOptions(output=run / "config.json"),
    "evaluate report": lambda run: EvaluationOptions(report=run / "pictures"),
    "evaluate report in the run": lambda run: EvaluationOptions(report=run),
    "evaluate submission": lambda run: EvaluationOptions(submission=run / "checkpoints" / "5"),
    "evaluate submission in the run": lambda run: EvaluationOptions(submission=run),
    "predict": lambda run: predict(SimpleNamespace(class_names=("a",)), ["x.jpg"], str(run)),
    "export to safetensors": lambda run: export("safetensors", random_trained(), str(run)),
    "export to onnx": lambda run: export("onnx", random_trained(), str(run)),
    "export to web": lambda run: export_page(random_trained(), run),
    "export to web in a folder": lambda run: export_page(random_trained(), run / "wandb"),
    "any export": lambda run: check_target("web", run),
    "export to tflite": lambda run: export("tflite", random_trained(), str(run)),
    "import": lambda run: import_weights("torchvision", "x.npz", CONFIG, run / "nonfinite"),
    "check-data": lambda run: check_data.check_data(SHAPES, (), str(run / "metrics.jsonl")),
    "convert-data": lambda run: convert_data(SHAPES, "coco", run / "pictures"),
    "show-data": lambda run: show_data.show_training_images(CONFIG, run / "pictures" / "a.png", 1),
    "by another name": lambda run: check_outputs(run / "new" / ".." / "Metrics.jsonl"),
    "by a link": lambda run: check_outputs(run / "link.json"),
}


@pytest.mark.parametrize("output", OUTPUTS)
def test_the_files_of_a_run_are_no_output(output, tmp_path):
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "link.json").symlink_to("classes.json")
    for name in ("format.json", "config.json", "classes.json", "metrics.jsonl"):
        (tmp_path / name).write_text("before")
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(
        UserError,
        match=r"is the work directory of a run, and th.* files of the run: name another",
    ):
        OUTPUTS[output](tmp_path)
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize(
    "place, told",
    [
        ("training_images", "training_images must name the format .* name training_images.png"),
        ("a.b/c", "a.b/c must name the format"),
        ("x.mp4", r"x.mp4 ends in '.mp4', but must be a picture, .png, .jpg, .*: name x.png"),
    ],
)
def test_a_picture_is_named_by_its_format(place, told, tmp_path):
    with pytest.raises(UserError, match=told):
        check_picture_file(place)
    with pytest.raises(UserError, match="out must name the format of the picture"):
        show_data.show_training_images(CONFIG, tmp_path / "out", 1)
    check_picture_file("x.PNG")
    check_picture_file(None)


def test_a_json_file_is_named_by_its_format(tmp_path):
    readme = tmp_path / "README.md"
    readme.write_text("# Read me")
    with pytest.raises(UserError, match=r"README\.md must end in \.json.*: name README\.json"):
        EvaluationOptions(output=readme)
    with pytest.raises(UserError, match=r"gs://bucket/out must end in \.json"):
        check_json_file("gs://bucket/out")
    with pytest.raises(UserError, match=r"found\.json must end in \.jsonl.*: name found\.jsonl"):
        check_data.check_data(SHAPES, output=str(tmp_path / "found.json"))
    for place in ("", None, "/dev/stdout", "x.JSON"):
        check_json_file(place)
    assert readme.read_text() == "# Read me"


def test_results_may_be_next_to_the_files_of_a_run(tmp_path):
    (tmp_path / "format.json").touch()
    check_outputs(tmp_path / "result.json", tmp_path / "report" / "index.html")
    EvaluationOptions(report=tmp_path / "report", submission=tmp_path / "report")
    with pytest.raises(UserError, match="metric_iou_threshold is 5"):
        EvaluationOptions(metric_iou_threshold=5)
    (tmp_path / "format.json").unlink()
    check_outputs(tmp_path / "config.json")


def test_outputs_that_cannot_be_written_are_rejected_before_work(tmp_path):
    (tmp_path / "file").touch()
    (tmp_path / "folder").mkdir()
    for outputs, message in (
        (lambda: EvaluationOptions(output=tmp_path / "folder"), "folder is a folder, but must be"),
        (
            lambda: EvaluationOptions(output=tmp_path / "no" / "x.json"),
            "folder .*no does not exist",
        ),
        (lambda: EvaluationOptions(report=tmp_path / "file" / "x"), "cannot be .*file is a file"),
        (lambda: check_data.check_data(SHAPES, (), str(tmp_path)), "is a folder, but must be a"),
        (lambda: show_data.show_training_images(CONFIG, str(tmp_path), 1), "is a folder, but must"),
        (lambda: export("onnx", random_trained(), tmp_path / "file"), "file is a file: name"),
        (lambda: convert_data(SHAPES, "coco", tmp_path / "file" / "x"), "file is a file: name"),
        (lambda: train(CONFIG, tmp_path / "file"), "file is a file, but must be a folder"),
        (lambda: train(CONFIG, tmp_path / "file" / "x"), "cannot be written: .*file is a file"),
        (lambda: train(CONFIG, "/proc/run"), "/proc/run cannot be written: no folder can be"),
    ):
        with pytest.raises(UserError, match=message):
            outputs()
    EvaluationOptions(output="/dev/stdout", report=tmp_path / "new" / "report")


def test_only_an_earlier_page_is_replaced(tmp_path):
    page = tmp_path / "index.html"
    page.write_text("<footer>Written by ssd_jax.</footer>")
    EvaluationOptions(report=tmp_path)
    with pytest.raises(UserError, match=r"index\.html is another page, which would be replaced"):
        export_page(random_trained(), tmp_path)
    page.write_text("<title>ssd_jax: detect objects</title>")
    with pytest.raises(UserError, match="name another folder, or remove it"):
        EvaluationOptions(report=tmp_path)
    EvaluationOptions(submission=tmp_path)  # which writes no page


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_without_permission_is_rejected_as_output(tmp_path):
    tmp_path.chmod(0o500)
    with pytest.raises(UserError, match=r"x\.json cannot be written: no permission to write in"):
        EvaluationOptions(output=tmp_path / "x.json")


def test_results_keep_apart(tmp_path):
    (tmp_path / "data.json").touch()
    (tmp_path / "link").symlink_to("data.json")
    with pytest.raises(UserError, match="would replace an input"):
        check_no_input_replaced([tmp_path / "link"], tmp_path / "data.json")
    with pytest.raises(UserError, match="a file in its folder"):
        check_no_input_replaced([tmp_path / "new"], tmp_path)
    check_no_input_replaced([tmp_path / "new"], tmp_path / "data.json")
    with pytest.raises(UserError, match="is named for two results"):
        check_outputs(tmp_path / "link", "", tmp_path / "data.json")
    check_outputs(tmp_path, None, tmp_path)  # a folder holds several


def test_a_name_that_is_too_long_is_refused(tmp_path):
    with pytest.raises(UserError, match=r"cannot be written: .* name another path"):
        check_outputs(tmp_path / ("x" * 300))
