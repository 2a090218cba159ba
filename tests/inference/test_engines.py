"""ONNX and TFLite files detect and are evaluated like the detector that was exported."""

import dataclasses
import json
import os
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import onnx
import onnx.helper
import pytest
from PIL import Image

from ssd_jax import Detector
from ssd_jax.cli import evaluate as evaluate_command
from ssd_jax.config.schema import DataConfig, as_config
from ssd_jax.data.sources import open_dataset
from ssd_jax.distributed import devices
from ssd_jax.errors import UserError
from ssd_jax.evaluation.error_costs import with_error_costs
from ssd_jax.inference.evaluation import evaluate_detector
from ssd_jax.inference.exported_engines import KIND_OF
from ssd_jax.inference.litert_notice import without_notice
from ssd_jax.inference.loading import load_detector
from ssd_jax.inference.predict import predict
from ssd_jax.interop.export import export
from ssd_jax.runs.evaluate import EvaluationOptions
from ssd_jax.runs.evaluator import Evaluator
from tests import tiny
from tests.helpers.commands import run_command, run_in_process
from tests.helpers.pictures import VocFolder
from tests.helpers.random_detector import CATEGORY_IDS, NAMES, random_trained

ENGINES = {"onnx": "onnxruntime", "openvino": "openvino", "tflite": "ai_edge_litert"}


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """Folders that `ssd-jax export` wrote, of one detector."""
    folder = tmp_path_factory.mktemp("exported")
    for kind in ("onnx", "tflite", "safetensors"):
        export(kind, random_trained(), str(folder / kind))
    return folder


@pytest.fixture(scope="module", params=ENGINES)
def engine(request):
    return request.param


def load(place, engine):
    if engine == "tflite":
        return Detector.from_tflite(place)
    return Detector.from_onnx(place, engine)


def file_of(exported, engine):
    kind = KIND_OF[engine]
    return exported / kind / f"detector.{kind}"


@pytest.fixture(scope="module")
def from_file(exported, engine):
    return load(file_of(exported, engine).parent, engine)


def pictures(count):
    rng = np.random.default_rng(5)
    return [rng.integers(0, 256, (40 + i, 60, 3), dtype=np.uint8) for i in range(count)]


def assert_alike(found, wanted):
    """Compares detections; scores differ by rounding, so the last one that is kept may differ."""
    assert (found.size, found.class_names) == (wanted.size, wanted.class_names)
    assert abs(len(found) - len(wanted)) <= 1 and len(wanted) > 20
    most = min(len(found), len(wanted)) - 1
    np.testing.assert_allclose(found.scores[:most], wanted.scores[:most], atol=1e-5)
    same = found.labels[:most] == wanted.labels[:most]
    assert same.mean() > 0.95  # but for pairs of nearly the same score
    np.testing.assert_allclose(found.boxes[:most][same], wanted.boxes[:most][same], atol=1e-2)


def test_a_file_detects_as_the_detector_does(detector, from_file):
    assert from_file.class_names == NAMES and from_file.category_ids == CATEGORY_IDS
    assert (from_file.side, from_file.least_score) == (64, pytest.approx(0.01))
    images = pictures(2)  # not 3, whose compiling test_detector.py counts
    found = from_file(images)
    for ours, theirs in zip(found, detector(images), strict=True):
        assert_alike(ours, theirs)
    assert_alike(from_file(images[1]), found[1])
    assert 0 < (from_file(images[1], score_threshold=0.5).scores >= 0.5).sum() < len(found[1])
    assert from_file([]) == []


def test_streams_keep_the_order_and_the_last_batch_may_be_smaller(detector, from_file):
    prepared = list(enumerate(map(from_file.prepare, pictures(7))))
    wanted = list(detector.stream(prepared, 2))
    # From several threads, with batches of two sizes at a time.
    with ThreadPoolExecutor(3) as pool:
        many = list(pool.map(lambda size: list(from_file.stream(iter(prepared), size)), (2, 1, 2)))
    for found in many:
        assert [key for key, _ in found] == list(range(7))
        for (_, ours), (_, theirs) in zip(found, wanted, strict=True):
            assert_alike(ours, theirs)


def test_too_many_at_once_are_refused_before_an_image_is_taken(from_file):
    with pytest.raises(UserError, match=r"a batch of 1,000,000,000 images .* fewer"):
        next(from_file.stream(iter(()), 10**9), None)


def test_predict_accepts_an_imported_detector(from_file, tmp_path):
    Image.fromarray(pictures(1)[0]).save(tmp_path / "a.png")
    done = predict(from_file, [str(tmp_path / "a.png")], str(tmp_path / "out"))
    assert done.images == 1 and done.with_objects == 1
    results = json.loads((tmp_path / "out" / "detections.json").read_text())
    assert {entry["category_id"] for entry in results["annotations"]} <= set(CATEGORY_IDS)


def write_changed(exported, place, change):
    model = onnx.load(exported / "onnx" / "detector.onnx")
    change(model)
    onnx.save(model, place)


def set_metadata(**values):
    def change(model):
        told = {each.key: each.value for each in model.metadata_props} | values
        del model.metadata_props[:]
        kept = {key: value for key, value in told.items() if value is not None}
        onnx.helper.set_model_props(model, kept)

    return change


def fix_batch(model):
    model.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 1


@pytest.mark.parametrize(
    "change, complaint",
    [
        (set_metadata(classes=None), "not a detector of `ssd-jax export`: .* lack classes"),
        (lambda model: model.ClearField("metadata_props"), "lack classes, image_size, score_thr"),
        (set_metadata(classes="[" * 9999), "is damaged: its metadata are"),
        (set_metadata(classes='[{"id": 1}]'), "must be a list, each class with a whole number"),
        (set_metadata(image_size="many"), "is damaged: its metadata are"),
        (
            set_metadata(image_size="65"),
            r"a detector takes any number of images \[65, 65, 3\] uint",
        ),
        (fix_batch, r"inputs .*1, 64, 64, 3.* any number of images"),
    ],
)
@pytest.mark.parametrize("engine", ["onnx", "openvino"])
def test_other_files_are_refused_in_one_line(exported, engine, change, complaint, tmp_path):
    write_changed(exported, tmp_path / "other.onnx", change)
    with pytest.raises(UserError, match=complaint) as refused:
        Detector.from_onnx(tmp_path / "other.onnx", engine)
    assert str(tmp_path / "other.onnx") in str(refused.value) and "\n" not in str(refused.value)


@pytest.mark.parametrize("engine", ["onnx", "openvino"])
def test_a_class_without_a_name_is_reported(exported, engine, tmp_path):
    one = set_metadata(classes=json.dumps([{"id": 1, "name": "circle"}]))
    write_changed(exported, tmp_path / "one.onnx", one)
    with pytest.raises(UserError, match=r"found the class \d, but its metadata name 1 class"):
        Detector.from_onnx(tmp_path / "one.onnx", engine)(pictures(1)[0])


def test_files_that_are_not_detectors_are_rejected(exported, engine, tmp_path):
    file = file_of(exported, engine)
    content = file.read_bytes()
    cut, empty, none = (tmp_path / f"{name}{file.suffix}" for name in ("cut", "empty", "none"))
    cut.write_bytes(content[: len(content) // 2])
    empty.write_bytes(b"")
    for damaged in (cut, empty):
        with pytest.raises(
            UserError, match=f"{damaged.name} is damaged, or .* does not support it"
        ) as told:
            load(damaged, engine)
        assert "\\n" not in str(told.value) and len(str(told.value)) < 600
    with pytest.raises(UserError, match=f"{none.name} does not exist"):
        load(none, engine)
    with pytest.raises(UserError, match=rf"has no {file.name}: name a folder of `ssd-jax exp"):
        load(tmp_path, engine)
    with pytest.raises(UserError, match=r"offsets.*, but a detector has boxes, .* name detec"):
        load(file.with_stem("network"), engine)


def test_a_file_of_tflite_without_a_description_is_refused(exported, tmp_path):
    content = file_of(exported, "tflite").read_bytes()
    (tmp_path / "other.tflite").write_bytes(content[: content.index(b"PK\3\4")])
    with pytest.raises(UserError, match=r"not a detector of .* lack classes, image_size, score_"):
        Detector.from_tflite(tmp_path / "other.tflite")


def test_litert_starts_without_its_notice(exported, capfd):
    detector = Detector.from_tflite(exported / "tflite")
    detector(pictures(1))
    with without_notice():
        os.write(2, b"INFO: Created TensorFlow Lite XNNPACK delegate for CPU.\nof another thread\n")
    assert capfd.readouterr().err == "of another thread\n"


def test_a_changed_bit_is_found_by_the_checksum(exported, tmp_path):
    content = bytearray((exported / "onnx" / "detector.onnx").read_bytes())
    content[len(content) // 2] ^= 1
    (tmp_path / "detector.onnx").write_bytes(content)
    (tmp_path / "SHA256SUMS").write_bytes((exported / "onnx" / "SHA256SUMS").read_bytes())
    for place in (tmp_path, tmp_path / "detector.onnx"):
        with pytest.raises(UserError, match=r"is damaged: detector\.onnx differs from its check"):
            Detector.from_onnx(place)


def test_a_missing_engine_is_reported_with_its_package(exported, monkeypatch):
    for engine, package in ENGINES.items():
        monkeypatch.setitem(sys.modules, package, None)
        message = rf"the engine {engine} needs .*: pip install -e '\.\[{engine}\]'"
        with pytest.raises(UserError, match=message):
            load(file_of(exported, engine), engine)
    with pytest.raises(UserError, match="cannot be run by 'tensorrt': use onnx or openvino"):
        Detector.from_onnx(exported / "onnx", "tensorrt")


def test_weights_choose_their_engine(exported, tmp_path):
    image = pictures(1)[0]
    weights = str(exported / "safetensors")
    wanted = load_detector(None, weights)(image)
    for place, engine in (
        (str(exported / "onnx"), ""),
        (str(exported / "onnx" / "detector.onnx"), "onnx"),
        (str(exported / "tflite"), ""),
        (weights, "onnx"),  # exported by the way
    ):
        assert_alike(load_detector(None, place, engine=engine)(image), wanted)
    for kind in ("onnx", "tflite"):
        (tmp_path / f"detector.{kind}").touch()
    for place, engine, complaint in (
        (exported / "onnx", "jax", "--engine is jax, but .* can only be run by onnx or openvino"),
        (exported / "tflite", "onnx", "cannot be run by 'onnx': use tflite"),
        (weights, "cuda", "--engine is 'cuda', but must be one of jax, onnx, openvino, tflite"),
        (exported, "", r"it has no config\.json"),
        (tmp_path, "", r"has detector\.onnx and detector\.tflite: name one of the files"),
    ):
        with pytest.raises(UserError, match=complaint):
            load_detector(None, str(place), engine=engine)


WITHOUT_JAX = """
import sys
sys.modules["jax"] = None
import numpy as np
from ssd_jax import Detector
file, engine = sys.argv[1:]
load = Detector.from_tflite if engine == "tflite" else Detector.from_onnx
detector = load(file, *([] if engine == "tflite" else [engine]))
print(len(detector(np.zeros((50, 40, 3), np.uint8))), "openvino_telemetry" in sys.modules)
"""


@pytest.mark.slow
def test_files_need_no_jax_and_send_no_telemetry(exported, engine):
    arguments = [sys.executable, "-c", WITHOUT_JAX, file_of(exported, engine), engine]
    done = subprocess.run(arguments, capture_output=True, text=True)
    count, telemetry = done.stdout.split()
    assert int(count) > 0 and telemetry == "False", done.stderr


OPTIONS = EvaluationOptions(metrics=("voc", "coco"))


@pytest.fixture(scope="module")
def data(detector, tmp_path_factory):
    """Four images, each with two objects that the detector finds, and one that it does not find.

    The sixth and the twentieth detection are right, so that mAP is neither 0 nor 1.
    """
    voc = VocFolder(tmp_path_factory.mktemp("data") / "voc")
    names = [f"picture{i}" for i in range(4)]
    for i, name in enumerate(names):
        voc.add(name, [], size=(60 + i, 50), suffix=".png")
        found = detector(voc.root / "JPEGImages" / f"{name}.png")
        objects = [(found.names[i], *found.boxes[i].round().astype(int) + 1) for i in (5, 19)]
        voc.add(name, [*objects, (NAMES[i], 1, 1, 3, 3)], size=(60 + i, 50), suffix=".png")
    return voc.split("all", *names)


@pytest.fixture(scope="module")
def wanted(data):
    """The results of the evaluation of a run."""
    trained = random_trained()
    dataset = open_dataset(data, class_names=NAMES)
    evaluator = Evaluator(as_config(tiny.get_config()), trained.network, dataset)
    results = evaluator(devices.replicate(trained.variables)).results
    summary = evaluator.summarise(results, OPTIONS.metrics)
    return with_error_costs(summary, results, NAMES)


def test_weights_are_evaluated_as_a_run_is(exported, data, wanted, tmp_path):
    output = tmp_path / "numbers.json"
    evaluate_detector(
        load_detector(None, str(exported / "safetensors")),
        "weights",
        DataConfig(train="", eval=data),
        dataclasses.replace(OPTIONS, output=output, submission=tmp_path / "sent"),
        batch_size=3,
    )
    assert 0.1 < wanted["mAP"] < 0.9
    assert json.loads(output.read_text()) == json.loads(json.dumps(wanted))
    sent = json.loads((tmp_path / "sent" / "detections.json").read_text())
    assert {entry["category_id"] for entry in sent} <= set(CATEGORY_IDS)


def test_the_command_prints_the_map_of_a_file(exported, engine, data, wanted, tmp_path, capsys):
    file, output = file_of(exported, engine), tmp_path / "numbers.json"
    run_in_process(
        evaluate_command,
        f"--weights={file}",
        f"--engine={engine}",
        f"--source={data}",
        "--metric=voc",
        f"--output={output}",
    )
    numbers = json.loads(output.read_text())
    assert numbers["num_images"] == 4
    assert numbers["mAP"] == pytest.approx(wanted["mAP"], abs=1e-3)
    assert f"{numbers['mAP']:.4f}" in capsys.readouterr().out


def test_a_file_is_evaluated_on_its_own_classes(exported, data):
    file = Detector.from_onnx(exported / "onnx")
    with pytest.raises(UserError, match=r"classes names 1 classes \(a\), but file was trained"):
        named = DataConfig(train="", eval=data, classes="a")
        evaluate_detector(file, "file", named, OPTIONS)


@pytest.mark.parametrize(
    "flag, complaint",
    [
        ("--flip", "--flip does not go with --weights: it detects with the network and the"),
        ("--score_threshold=0.2", "--score_threshold does not go with --weights"),
        ("--nms_threshold=0.2", "--nms_threshold does not go with --weights"),
        ("--top_k=5", "--top_k does not go with --weights"),
        ("--checkpoint=last", "--checkpoint does not go with --weights"),
        ("--process_id=0", "--process_id does not go with --weights: one process detects"),
        ("--detections=x.json", "name --weights or --detections, not both"),
    ],
)
def test_flags_that_a_file_decides_are_refused_by_name(flag, complaint):
    with pytest.raises(UserError, match=f"^{complaint}"):
        run_in_process(evaluate_command, "--weights=w.onnx", "--source=data", flag)


def test_an_engine_needs_weights():
    with pytest.raises(UserError, match="--engine goes with --weights"):
        run_in_process(evaluate_command, "--workdir=run", "--engine=onnx")


@pytest.mark.slow
def test_fields_that_a_file_decides_are_refused_by_name():
    flags = ("--weights=w.onnx", "--config=quickstart", "--config.model.precision=bfloat16")
    done = run_command("evaluate", *flags, expect=1)
    assert done.stderr.startswith("error: --config.model.precision does not go with --weights")


@pytest.mark.parametrize(
    ("file", "complaint"),
    [
        ("saved_model.pb", "has saved_model.pb, a SavedModel, which cannot be loaded here"),
        (
            "detector.stablehlo",
            "has detector.stablehlo, a file of StableHLO, which cannot be loaded",
        ),
    ],
)
def test_exports_for_other_programs_are_rejected(file, complaint, tmp_path):
    (tmp_path / file).write_bytes(b"x")
    with pytest.raises(UserError, match=f"^{tmp_path} {complaint}"):
        load_detector(None, str(tmp_path))
    with pytest.raises(UserError, match=f"^{tmp_path / file} is a file: name a .* --workdir"):
        load_detector(None, str(tmp_path / file))


def test_a_folder_may_hold_several_exports(exported, tmp_path):
    folder = tmp_path / "deploy"
    shutil.copytree(exported / "onnx", folder)
    export("safetensors", random_trained(), folder)
    assert load_detector(None, str(folder)).class_names == NAMES
    assert load_detector(None, str(folder / "detector.onnx")).class_names == NAMES
    with (folder / "detector.onnx").open("ab") as file:
        file.write(b"x")  # what was kept of the checksums still counts
    export("safetensors", random_trained(), folder)
    with pytest.raises(UserError, match=r"detector\.onnx differs from its checksum"):
        load_detector(None, str(folder / "detector.onnx"))


def test_suffixes_may_have_capital_letters(exported, tmp_path):
    file = tmp_path / "Detector.ONNX"
    file.write_bytes((exported / "onnx" / "detector.onnx").read_bytes())
    assert load_detector(None, str(file)).class_names == NAMES
