"""ONNX files compute the same outputs as the network, in operators of ONNX."""

import json
from collections import Counter

import jax
import numpy as np
import onnx
import onnx.helper
import onnxruntime
import pytest
from jax import lax
from PIL import Image

from ssd_jax.config.files import load_config
from ssd_jax.config.schema import DetectionConfig, DetectorConfig, as_config
from ssd_jax.detection.postprocess import detect
from ssd_jax.errors import UserError
from ssd_jax.interop.export import PRECISIONS, Choices, check_export, export
from ssd_jax.interop.onnx_detector import IR_VERSION, OPSET, add_detection, write_onnx
from ssd_jax.interop.onnx_float16 import to_float16
from ssd_jax.interop.onnx_graph import Graph, add_network
from ssd_jax.interop.trained import Trained
from ssd_jax.models.input_size import fields_of_size
from ssd_jax.models.network import build_network
from tests import tiny

NAMES = ("cat", "dog", "fox")
SIZE = 64
LICENSE = "apache-2.0"


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
        # The first convolution divides the pixels, whose channels are moved before they are floats.
        assert operators["Div"] == 0
        assert onnx.load(tmp_path / "network.onnx").graph.node[0].op_type == "Transpose"
    # Hard swish and the parts of squeeze-and-excitation are one node each.
    if name == "ssdlite320_mobilenetv3_coco":
        assert (operators["HardSwish"], operators["HardSigmoid"]) == (20, 8)
        assert (operators["GlobalAveragePool"], operators["Mul"], operators["Add"]) == (8, 8, 10)
        assert sum(operators.values()) == 226


def test_detections_equal_those_of_the_project():
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


@pytest.fixture(scope="module")
def tiny_trained():
    settings = as_config(tiny.get_config()).model.model_copy(update={"precision": "bfloat16"})
    return random_trained(settings)


@pytest.fixture(scope="module")
def calibration(tmp_path_factory):
    """A data set of two images."""
    folder = tmp_path_factory.mktemp("calibration")
    rng = np.random.default_rng(4)
    for name in ("a.png", "b.png"):
        Image.fromarray(rng.integers(0, 256, (50, 70, 3)).astype(np.uint8)).save(folder / name)
    rows = "filename,class,xmin,ymin,xmax,ymax\na.png,cat,1,2,30,40\nb.png,fox,5,5,60,40\n"
    (folder / "objects.csv").write_text(rows)
    return f"csv:{folder / 'objects.csv'}:{folder}"


@pytest.fixture(scope="module")
def exported(tiny_trained, calibration, tmp_path_factory):
    """Folders by the precision of the network in them."""
    folder = tmp_path_factory.mktemp("exported")
    for precision in PRECISIONS["onnx"]:
        given = calibration if precision == "int8" else ""
        export("onnx", tiny_trained, str(folder / precision), Choices(precision, given, LICENSE))
    return folder


@pytest.mark.parametrize("precision", PRECISIONS["onnx"])
def test_files_describe_their_detector(precision, exported):
    made = exported / precision
    names = {"SHA256SUMS", "classes.json", "default_boxes.npy", "detector.onnx", "network.onnx"}
    assert {file.name for file in made.iterdir()} == names
    for name, outputs in (
        ("network", {"offsets": "float", "logits": "float"}),
        ("detector", {"boxes": "float", "scores": "float", "labels": "int32"}),
    ):
        file = made / f"{name}.onnx"
        assert file.stat().st_mode & 0o444 == 0o444
        session = onnxruntime.InferenceSession(file)
        (given,) = session.get_inputs()
        assert (given.name, given.type) == ("images", "tensor(uint8)")
        assert given.shape == ["batch", 64, 64, 3]
        types = {output.name: output.type for output in session.get_outputs()}
        assert types == {name: f"tensor({kind})" for name, kind in outputs.items()}
        told = session.get_modelmeta().custom_metadata_map
        assert json.loads(told["classes"])[1] == {"id": 5, "name": "dog"}
        assert told["image_size"] == "64" and told["score_threshold"] == "0.01"
        assert told["license"] == LICENSE
        model = onnx.load(file)
        assert [(each.domain, each.version) for each in model.opset_import] == [("", OPSET)]
        assert not any(node.domain for node in model.graph.node)
        initializers = [each for each in model.graph.initializer if "weight" in each.name]
        weights = [each for each in initializers if len(each.dims) == 4]  # no scale of weights
        kind = onnx.TensorProto.DataType.Value(precision.replace("32", "").upper())
        assert len(weights) == 23 and {each.data_type for each in weights} == {kind}


# Shares of the standard deviation of what the network gives on noise, with random weights.
@pytest.mark.parametrize("precision, least, most", [("float16", 1e-5, 1e-3), ("int8", 1e-3, 0.02)])
def test_lower_precision_gives_nearly_equal_results(precision, least, most, exported, images):
    wanted = run(exported / "float32" / "network.onnx", images)
    found = run(exported / precision / "network.onnx", images)
    for name, array in wanted.items():
        error = np.sqrt(np.mean((found[name] - array) ** 2)) / array.std()
        assert least < error < most


def traced(function, side=4):
    """The graph of a function of images with this number of pixels."""
    graph = Graph()
    add_network(graph, function, "images", side, names=("found",))
    return graph


def convolution(images, factor):
    """A convolution that multiplies by a factor."""
    kernel = factor * np.eye(3, dtype=np.float32)[None, None]
    dimensions = ("NHWC", "HWIO", "NHWC")
    return lax.conv_general_dilated(
        images.astype(np.float32), kernel, (1, 1), "SAME", dimension_numbers=dimensions
    )


def found_in_float16(function, images):
    """The result of a function of images in float16, in onnxruntime."""
    graph = traced(function)
    to_float16(graph, ("found",))
    (weight,) = [each for each in graph.constants if "weight" in each.name]
    assert weight.data_type == onnx.TensorProto.FLOAT16
    make = onnx.helper.make_tensor_value_info
    inputs = [make("images", onnx.TensorProto.UINT8, images.shape)]
    outputs = [make("found", onnx.TensorProto.FLOAT, None)]
    made = onnx.helper.make_graph(graph.nodes, "function", inputs, outputs, graph.constants)
    opset = [onnx.helper.make_opsetid("", OPSET)]
    model = onnx.helper.make_model(made, opset_imports=opset, ir_version=IR_VERSION)
    session = onnxruntime.InferenceSession(model.SerializeToString())
    (found,) = session.run(None, {"images": images})
    return np.asarray(found).transpose(0, 2, 3, 1)


def test_squeezed_and_excited_maps_in_float16_are_nearly_the_same():
    def excited(images):
        x = jax.nn.hard_swish(convolution(images, 0.02))
        return x * jax.nn.hard_sigmoid(jax.numpy.mean(x, axis=(1, 2), keepdims=True) - 2)

    images = np.random.default_rng(0).integers(0, 256, (1, 4, 4, 3)).astype(np.uint8)
    wanted, found = np.asarray(excited(images)), found_in_float16(excited, images)
    assert 1e-5 < np.abs(found - wanted).max() < 2e-3 * wanted.max()


def test_sums_of_squares_that_float16_cannot_hold_stay_in_float32():
    def normalised(images):
        x = convolution(images, 10)
        return x / jax.numpy.sqrt(jax.numpy.sum(x * x, axis=-1, keepdims=True) + 1e-10)

    images = np.full((1, 4, 4, 3), 200, np.uint8)  # 3 * 2000² = 12,000,000
    images[0, 0, 0] = 0  # whose sum would be 0, without the 1e-10 that float16 cannot hold either
    found = found_in_float16(normalised, images)
    assert not found[0, 0, 0].any()
    np.testing.assert_allclose(found[0, 1:], 3**-0.5, rtol=1e-6)


@pytest.mark.parametrize(
    "function, complaint",
    [
        (lambda x: jax.numpy.tanh(x.astype(np.float32)), "computes tanh, for which export to ONNX"),
        (
            lambda x: lax.broadcast_in_dim(x.astype(np.float32), (2, 1, 4, 4, 3), (1, 2, 3, 4)),
            "repeats values, for which",
        ),
        (
            lambda x: lax.conv_transpose(
                x.astype(np.float32), np.ones((2, 2, 3, 3), np.float32), (2, 2), "SAME"
            ),
            "has a transposed or dynamic convolution, for which export to ONNX has no operator",
        ),
    ],
)
def test_operations_without_an_onnx_operator_are_reported(function, complaint):
    with pytest.raises(UserError, match=f"the network {complaint}"):
        traced(function)


@pytest.mark.parametrize(
    "arguments, complaint",
    [
        (("keras",), "--to is 'keras', but must be one of safetensors, "),
        (
            ("safetensors", "int8", "x"),
            "'int8', but --to=safetensors has no choice of precision: leave",
        ),
        (
            ("stablehlo", "float32"),
            "'float32', but --to=stablehlo has no choice of precision: leave",
        ),
        (("onnx", "bfloat16"), "'bfloat16', but must be one of float32, float16, int8$"),
        (("onnx", "int8"), "int8 needs images to .* --calibration=SOURCE with training"),
        (("onnx", "float16", "shapes:test"), "'shapes:test', but only --precision=int8 uses it"),
        (("onnx", "", "shapes:test"), "'shapes:test', but only --precision=int8 uses it"),
    ],
)
def test_precisions_that_cannot_be_are_named(arguments, complaint):
    kind, *chosen = arguments
    with pytest.raises(UserError, match=complaint):
        check_export(kind, Choices(*chosen))
