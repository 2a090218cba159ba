"""ONNX files compute what the network does, in operators of their own."""

import json
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

import jax
import numpy as np
import onnx
import onnx.helper
import onnxruntime
import pytest
from PIL import Image

from ssd_jax import Detector
from ssd_jax.config.files import load_config
from ssd_jax.config.schema import DetectionConfig, DetectorConfig, as_config
from ssd_jax.detection.postprocess import detect
from ssd_jax.interop.export import export
from ssd_jax.interop.onnx_detector import IR_VERSION, OPSET, add_detection, write_onnx
from ssd_jax.interop.onnx_graph import Graph
from ssd_jax.interop.trained import Trained
from ssd_jax.models.input_size import fields_of_size
from ssd_jax.models.network import build_network
from tests import tiny

NAMES = ("cat", "dog", "fox")
SIZE = 64
DOCS = Path(__file__).parents[2] / "docs" / "onnx.md"


def random_trained(settings):
    network = build_network(settings, len(NAMES))
    rng = np.random.default_rng(0)

    def random(shapes, low, high):
        return jax.tree.map(lambda x: rng.uniform(low, high, x.shape).astype(x.dtype), shapes)

    parameters, batch_stats = network.variable_shapes()
    variables = (random(parameters, -0.1, 0.15), random(batch_stats, 0.5, 1.5))
    return Trained(network, variables, NAMES, (1, 5, 9), DetectorConfig(model=settings))


def run(file, images):
    session = onnxruntime.InferenceSession(file)
    names = [output.name for output in session.get_outputs()]
    found = map(np.asarray, session.run(None, {"images": images}))
    return dict(zip(names, found, strict=True))


@pytest.fixture
def images():
    return np.random.default_rng(1).integers(0, 256, (2, SIZE, SIZE, 3)).astype(np.uint8)


@pytest.mark.parametrize("name", ["own_images:cpu", "ssdlite320_mobilenetv3_coco", "ssd_small"])
def test_networks_compute_the_same_for_any_number_of_images(name, images, tmp_path):
    settings = load_config(name).model
    settings = settings.model_copy(update=fields_of_size(settings, SIZE) | {"width": 0.02})
    trained = random_trained(settings)
    write_onnx(trained, tmp_path)
    normalised = trained.network.normalise(images)
    apply = jax.jit(trained.network.apply, static_argnames="train")
    wanted, _ = apply(*trained.variables, normalised, train=False)
    for kept in (1, 2):
        found = run(tmp_path / "network.onnx", images[:kept])
        for name, array in zip(("offsets", "logits"), wanted, strict=True):
            assert found[name].shape == array[:kept].shape
            np.testing.assert_allclose(
                found[name], array[:kept], atol=1e-5 * float(np.abs(array).max())
            )
    operators = Counter(node.op_type for node in onnx.load(tmp_path / "network.onnx").graph.node)
    assert "BatchNormalization" not in operators and operators["Identity"] == 2
    # Batch norm is in the weights of the convolutions, a ReLU6 one clip, a layer one convolution.
    if name == "own_images:cpu":
        assert operators["Conv"] == 92 and operators["Clip"] == 61
        assert operators["Mul"] == 0 and operators["Pad"] == 0


def test_detections_are_those_of_the_project():
    rng = np.random.default_rng(2)
    settings = load_config("ssd_small").model
    boxes = build_network(settings, len(NAMES)).default_boxes()
    offsets = rng.normal(0, 1, (2, len(boxes), 4)).astype(np.float32)
    logits = rng.normal(0, 2, (2, len(boxes), len(NAMES) + 1)).astype(np.float32)
    logits[..., 0] += 9
    logits[1] = 0  # whose probabilities are below the threshold
    detection = DetectionConfig(score_threshold=0.3, detections_per_image=100)
    wanted = detect(offsets, logits, boxes, detection)
    assert 20 < np.count_nonzero(wanted.labels[0]) < 100

    graph, float_type = Graph(), onnx.TensorProto.FLOAT
    assert add_detection(graph, boxes, len(NAMES) + 1, detection) == 100
    make = onnx.helper.make_tensor_value_info
    inputs = [make("offsets", float_type, ["n", None, 4]), make("logits", float_type, None)]
    outputs = [make(name, float_type, None) for name in ("boxes", "scores")]
    outputs.append(make("labels", onnx.TensorProto.INT32, None))
    made = onnx.helper.make_graph(graph.nodes, "detection", inputs, outputs, graph.constants)
    opset = [onnx.helper.make_opsetid("", OPSET)]
    model = onnx.helper.make_model(made, opset_imports=opset, ir_version=IR_VERSION)
    session = onnxruntime.InferenceSession(model.SerializeToString())
    found = session.run(["boxes", "scores", "labels"], {"offsets": offsets, "logits": logits})
    clipped = wanted._replace(boxes=np.clip(wanted.boxes, 0, 1))
    for ours, theirs in zip(clipped, found, strict=True):
        np.testing.assert_allclose(np.asarray(theirs), ours, atol=1e-6)


def test_files_say_what_is_in_them(tmp_path):
    settings = as_config(tiny.get_config()).model.model_copy(update={"precision": "bfloat16"})
    trained = random_trained(settings)
    export("onnx", trained, str(tmp_path / "made"))
    names = {"SHA256SUMS", "classes.json", "default_boxes.npy", "detector.onnx", "network.onnx"}
    assert {file.name for file in (tmp_path / "made").iterdir()} == names
    for name, outputs in (
        ("network", ["offsets", "logits"]),
        ("detector", ["boxes", "scores", "labels"]),
    ):
        session = onnxruntime.InferenceSession(tmp_path / "made" / f"{name}.onnx")
        (images,) = session.get_inputs()
        assert (images.name, images.type) == ("images", "tensor(uint8)")
        assert images.shape == ["batch", 64, 64, 3]
        assert [output.name for output in session.get_outputs()] == outputs
        told = session.get_modelmeta().custom_metadata_map
        assert json.loads(told["classes"])[1] == {"id": 5, "name": "dog"}
        assert told["image_size"] == "64" and told["score_threshold"] == "0.01"


def test_the_documented_program_detects_without_the_package(tmp_path):
    trained = random_trained(as_config(tiny.get_config()).model)
    export("onnx", trained, str(tmp_path / "deploy"))
    image = np.random.default_rng(3).integers(0, 256, (50, 80, 3)).astype(np.uint8)
    Image.fromarray(image).save(tmp_path / "image.png")
    (program,) = re.findall(r"```python\n(# detect\.py.*?)```", DOCS.read_text(), re.DOTALL)
    assert "ssd_jax" not in program and "score > 0.3" in program
    (tmp_path / "detect.py").write_text(program.replace("score > 0.3", "score > 0.01"))
    arguments = [sys.executable, "-P", "detect.py", "image.png"]
    done = subprocess.run(arguments, cwd=tmp_path, check=True, capture_output=True, text=True)
    wanted = Detector(trained)(image)
    lines = [
        f"{NAMES[label - 1]} {score:.2f} {box.round().astype(int).tolist()}"
        for box, score, label in zip(wanted.boxes, wanted.scores, wanted.labels, strict=True)
    ]
    assert len(lines) > 10 and sorted(done.stdout.splitlines()) == sorted(lines)
