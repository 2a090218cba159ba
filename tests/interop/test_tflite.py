"""TFLite files compute the network's outputs in operators of TFLite, and have metadata."""

import io
import json
import struct
import zipfile
from collections import Counter

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.interpreter import Interpreter
from jax import lax
from PIL import Image

from ssd_jax.config.files import load_config
from ssd_jax.config.schema import DetectionConfig, as_config
from ssd_jax.data.tensorflow_setup import tf
from ssd_jax.detection.postprocess import detect
from ssd_jax.errors import UserError
from ssd_jax.interop.export import PRECISIONS, Choices, export
from ssd_jax.interop.tflite_detector import SMALLEST_IN_FLOAT16, add_detection, write_tflite
from ssd_jax.interop.tflite_file import Model
from ssd_jax.interop.tflite_network import network_function
from ssd_jax.models.convolution import LAYOUT
from ssd_jax.models.input_size import fields_of_size
from ssd_jax.models.network import build_network
from tests import tiny
from tests.interop.test_onnx import LICENSE, NAMES, SIZE, random_trained

OPERATORS = {number: name for name, number in vars(schema.BuiltinOperator).items()}


def of_size(name):
    settings = load_config(name).model
    fields = fields_of_size(settings, SIZE) | {"width": 0.02}
    return random_trained(settings.model_copy(update=fields))


def run(file, images):
    return Interpreter(str(file)).get_signature_runner()(images=images)


def operators(file):
    model = schema.ModelT.InitFromPackedBuf(file.read_bytes())
    (graph,) = model.subgraphs
    codes = [model.operatorCodes[each.opcodeIndex] for each in graph.operators]
    return Counter(OPERATORS[max(c.builtinCode, c.deprecatedBuiltinCode)] for c in codes)


@pytest.fixture(scope="module")
def image():
    return np.random.default_rng(1).integers(0, 256, (1, SIZE, SIZE, 3)).astype(np.uint8)


@pytest.fixture(scope="module")
def trained():
    """The tiny detector, trained in bfloat16; its files are in float32."""
    settings = as_config(tiny.get_config()).model.model_copy(update={"precision": "bfloat16"})
    return random_trained(settings)


@pytest.fixture(scope="module")
def exported(trained, tmp_path_factory):
    """Folders by the precision of the network in them; calibrated on noise as it is run on."""
    folder = tmp_path_factory.mktemp("exported")
    noise = np.random.default_rng(4).integers(0, 256, (SIZE, SIZE, 3)).astype(np.uint8)
    Image.fromarray(noise).save(folder / "a.png")
    rows = "filename,class,xmin,ymin,xmax,ymax\na.png,cat,1,2,30,40\n"
    (folder / "objects.csv").write_text(rows)
    for precision in PRECISIONS["tflite"]:
        given = f"csv:{folder / 'objects.csv'}:{folder}" if precision == "int8" else ""
        export("tflite", trained, str(folder / precision), Choices(precision, given, LICENSE))
    return folder


@pytest.mark.parametrize(
    ("name", "wanted"),
    [
        # One operator for each of 92 convolutions and 13 shortcuts, none for batch norm and ReLU6;
        # CAST, SUB and MUL normalise the pixels.
        (
            "own_images:cpu",
            {"CONV_2D": 57, "DEPTHWISE_CONV_2D": 35, "ADD": 13, "MUL": 1, "SUB": 1, "CAST": 1},
        ),
        ("ssd_small", {"CONV_2D": 35, "MAX_POOL_2D": 5, "L2_NORMALIZATION": 1, "SPLIT_V": 0}),
    ],
)
def test_networks_compute_the_same(name, wanted, image, tmp_path):
    trained = of_size(name)
    write_tflite(trained, tmp_path)
    found = run(tmp_path / "network.tflite", image)
    options = {"xla_backend_optimization_level": 0}  # it runs once
    apply = jax.jit(trained.network.apply, static_argnames="train", compiler_options=options)
    outputs, _ = apply(*trained.variables, trained.network.normalise(image), train=False)
    for output, array in zip(("offsets", "logits"), outputs, strict=True):
        assert found[output].shape == array.shape
        limit = 1e-5 * float(np.abs(array).max())
        np.testing.assert_allclose(found[output], array, atol=limit)
    counted = operators(tmp_path / "network.tflite")
    assert {name: counted[name] for name in wanted} == wanted
    assert not {"RELU", "RELU6", "MINIMUM", "MAXIMUM", "TRANSPOSE", "CUSTOM"} & set(counted)
    added = operators(tmp_path / "detector.tflite") - counted
    assert added == Counter(["GATHER", "SOFTMAX", "CUSTOM", "MAXIMUM", "MINIMUM"])


def convolved(x, channels, **options):
    """A convolution with random weights and a bias."""
    rng = np.random.default_rng(channels)
    kernel = rng.normal(size=(3, 3, x.shape[-1], channels)).astype(np.float32)
    bias = rng.normal(size=channels).astype(np.float32)
    kinds = {"window_strides": (1, 1), "padding": "SAME"} | options
    return lax.conv_general_dilated(x, kernel, dimension_numbers=LAYOUT, **kinds) + bias


def squeezed_and_excited(x):
    x = jax.nn.hard_swish(convolved(x, 4))
    return x * jax.nn.hard_sigmoid(jnp.mean(x, axis=(1, 2), keepdims=True))


@pytest.mark.parametrize(
    "function",
    [
        squeezed_and_excited,
        lambda x: tuple(jnp.split(convolved(x, 6), (2,), axis=-1)),
        lambda x: jnp.split(x, (2,), axis=1)[1],
        lambda x: convolved(x, 2, window_strides=(2, 2), padding=((1, 1), (1, 1))),
        lambda x: convolved(x, 2, padding=((2, 2), (2, 2)), rhs_dilation=(2, 2)),
        lambda x: x / jnp.sqrt(jnp.sum(x * x, axis=-1, keepdims=True) + 1),
    ],
)
def test_operations_compute_the_same(function):
    x = np.random.default_rng(5).normal(size=(1, 6, 6, 3)).astype(np.float32)
    wanted = jax.tree.leaves(function(x))
    found = network_function(function, 6)(tf.constant(x))
    # And with a batch of a size that is open, where each image is computed for itself.
    spec = [tf.TensorSpec((None, *x.shape[1:]))]
    batches = tf.function(network_function(function, 6), spec, autograph=False)
    of_two = batches(tf.constant(np.concatenate([x[:, ::-1], x])))
    for ours, theirs, second in zip(wanted, found, of_two, strict=True):
        np.testing.assert_allclose(theirs.numpy(), ours, rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(second.numpy()[1:], ours, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("function", "complaint"),
    [
        (lambda x: jnp.sin(x), "computes sin"),
        (lambda x: jnp.broadcast_to(x[:, :1], x.shape), "computes slice"),
        (lambda x: convolved(x, 3, padding=((2, 2), (2, 2)), lhs_dilation=(2, 2)), "transposed"),
    ],
)
def test_operations_that_cannot_be_are_named(function, complaint):
    with pytest.raises(UserError, match=f"{complaint}.*no operator: add it"):
        network_function(function, 4)(tf.zeros((1, 4, 4, 3)))


def test_detections_equal_those_of_the_project():
    rng = np.random.default_rng(2)
    boxes = build_network(load_config("ssd_small").model, len(NAMES)).default_boxes()
    offsets = rng.normal(0, 1, (1, len(boxes), 4)).astype(np.float32)
    logits = rng.normal(0, 2, (1, len(boxes), len(NAMES) + 1)).astype(np.float32)
    logits[..., 0] += 9
    detection = DetectionConfig(score_threshold=0.3, detections_per_image=100)
    (wanted,) = zip(*map(np.asarray, detect(offsets, logits, boxes, detection)), strict=True)
    wanted_boxes, wanted_scores, wanted_labels = wanted
    assert 20 < np.count_nonzero(wanted_labels) < 100

    module = tf.Module()
    given = [
        tf.TensorSpec(array.shape, name=name) for name, array in (("a", offsets), ("b", logits))
    ]
    module.run = tf.function(lambda a, b: {"offsets": a + 0.0, "logits": b + 0.0}, given)
    functions = [module.run.get_concrete_function()]
    model = Model(tf.lite.TFLiteConverter.from_concrete_functions(functions, module).convert())
    inputs = model.inputs
    model.name(inputs, add_detection(model, boxes, len(NAMES), detection))
    detector = Interpreter(model_content=model.serialise("", b"", {})).get_signature_runner()
    found = detector(a=offsets, b=logits)
    count = int(found["count"][0])
    assert count == np.count_nonzero(wanted_labels)
    np.testing.assert_allclose(found["scores"][0], wanted_scores, atol=1e-6)
    np.testing.assert_array_equal(found["classes"][0, :count], wanted_labels[:count] - 1)
    corners = found["boxes"][0, :, [1, 0, 3, 2]].T
    np.testing.assert_allclose(corners, np.clip(wanted_boxes, 0, 1), atol=1e-6)


# Shares of the standard deviation of what the network gives on noise, with random weights.
@pytest.mark.parametrize("precision, least, most", [("float16", 1e-5, 1e-3), ("int8", 1e-3, 0.02)])
def test_lower_precision_gives_nearly_equal_results(precision, least, most, exported, image):
    wanted = run(exported / "float32" / "network.tflite", image)
    found = run(exported / precision / "network.tflite", image)
    for name, array in wanted.items():
        assert found[name].dtype == np.float32
        error = np.sqrt(np.mean((found[name] - array) ** 2)) / array.std()
        assert least < error < most


def test_float16_rounds_large_constants_alone(exported):
    plain, halved = (
        constants(exported / precision / "network.tflite") for precision in ("float32", "float16")
    )
    large = {name for name, array in plain.items() if array.size >= SMALLEST_IN_FLOAT16}
    small = set(plain) - large
    assert large and small
    assert set(halved) == small | {f"{name}_float16" for name in large}
    for name in small:
        np.testing.assert_array_equal(halved[name], plain[name])
    for name in large:
        np.testing.assert_array_equal(halved[f"{name}_float16"], plain[name].astype(np.float16))
    widened = operators(exported / "float16" / "network.tflite")["DEQUANTIZE"]
    assert widened == len(large)


def constants(path):
    """Constants in float32 and float16 of a file, by name."""
    model = schema.ModelT.InitFromPackedBuf(path.read_bytes())
    kinds = {schema.TensorType.FLOAT32: np.float32, schema.TensorType.FLOAT16: np.float16}
    return {
        tensor.name.decode(): np.asarray(model.buffers[tensor.buffer].data, np.uint8).view(kind)
        for tensor in model.subgraphs[0].tensors
        if (kind := kinds.get(tensor.type)) and model.buffers[tensor.buffer].data is not None
    }


def test_int8_networks_use_integers_from_the_input_on(exported):
    interpreter = Interpreter(str(exported / "int8" / "network.tflite"))
    (given,) = interpreter.get_input_details()
    assert given["dtype"] == np.uint8 and given["quantization"] == (1, 0)
    counted = operators(exported / "int8" / "network.tflite")
    plain = operators(exported / "float32" / "network.tflite")
    # Pixels become signed, and the two outputs float32; nothing between changes its scale.
    assert (
        counted["QUANTIZE"] == 1
        and counted["DEQUANTIZE"] == 2
        and counted["CONV_2D"] == plain["CONV_2D"] == 27
    )
    kinds = Counter(
        each["dtype"] for each in interpreter.get_tensor_details() if each["shape"].size
    )
    assert kinds[np.float32] == 2


class Table:
    """A table of a FlatBuffer, read by the numbers of its fields."""

    def __init__(self, content, place):
        self.content, self.place = content, place

    def at(self, number):
        """The position of a field."""
        names = self.place - self.int(self.place, "i")
        assert 4 + 2 * number < self.int(names, "H")
        return self.place + self.int(names + 4 + 2 * number, "H")

    def int(self, place, kind):
        return struct.unpack_from(f"<{kind}", self.content, place)[0]

    def behind(self, place):
        return place + self.int(place, "I")

    def table(self, number):
        return Table(self.content, self.behind(self.at(number)))

    def tables(self, number):
        start = self.behind(self.at(number))
        places = range(start + 4, start + 4 + 4 * self.int(start, "I"), 4)
        return [Table(self.content, self.behind(place)) for place in places]

    def text(self, number):
        start = self.behind(self.at(number))
        return self.content[start + 4 : start + 4 + self.int(start, "I")].decode()

    def array(self, number, kind):
        start = self.behind(self.at(number))
        return np.frombuffer(self.content, kind, self.int(start, "I"), start + 4).tolist()


def metadata(content):
    """TFLite's own metadata of a file."""
    model = schema.ModelT.InitFromPackedBuf(content)
    (entry,) = [each for each in model.metadata if each.name == b"TFLITE_METADATA"]
    written = model.buffers[entry.buffer].data.tobytes()
    assert written[4:8] == b"M001"
    return Table(written, struct.unpack_from("<I", written)[0])


def test_files_describe_their_detector(exported):
    folder = exported / "float32"
    names = {"SHA256SUMS", "classes.json", "default_boxes.npy", "detector.tflite", "network.tflite"}
    assert {file.name for file in folder.iterdir()} == names
    content = (folder / "detector.tflite").read_bytes()
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        assert archive.read("labels.txt").decode() == "cat\ndog\nfox"
        told = json.loads(archive.read("detector.json"))
    assert told["classes"][1] == {"id": 5, "name": "dog"}
    assert told["image_size"] == 64 and told["score_threshold"] == 0.01
    assert told["license"] == LICENSE

    of_network = metadata((folder / "network.tflite").read_bytes())
    assert of_network.text(0) == "SSD network" and of_network.text(5) == LICENSE
    root = metadata(content)
    assert root.text(0) == "SSD detector" and root.text(5) == LICENSE
    (graph,) = root.tables(3)
    (given,), found = graph.tables(2), graph.tables(3)
    assert given.table(3).table(1).table(1).int(given.table(3).table(1).table(1).at(0), "I") == 64
    assert given.tables(4)[0].table(1).array(1, np.float32) == [1]
    assert [each.text(0) for each in found] == [
        "location",
        "category",
        "score",
        "number of detections",
    ]
    assert found[0].table(3).table(1).array(0, np.uint32) == [1, 0, 3, 2]
    assert found[1].tables(6)[0].text(0) == "labels.txt"


def test_constants_are_aligned(exported):
    content = (exported / "float32" / "network.tflite").read_bytes()
    model = schema.Model.GetRootAs(content)
    start = np.frombuffer(content, np.uint8).ctypes.data
    places = [
        model.Buffers(i).DataAsNumpy().ctypes.data - start
        for i in range(model.BuffersLength())
        if model.Buffers(i).DataLength()
    ]
    assert len(places) > 40 and not any(place % 16 for place in places)


def test_mediapipe_takes_the_file(exported):
    mediapipe = pytest.importorskip("mediapipe")
    from mediapipe.tasks.python import BaseOptions, vision

    file = exported / "float32" / "detector.tflite"
    image = np.random.default_rng(4).integers(0, 256, (SIZE, SIZE, 3)).astype(np.uint8)
    options = vision.ObjectDetectorOptions(base_options=BaseOptions(model_asset_path=str(file)))
    with vision.ObjectDetector.create_from_options(options) as detector:
        given = mediapipe.Image(image_format=mediapipe.ImageFormat.SRGB, data=image)
        found = detector.detect(given).detections
    wanted = run(file, image[None])
    # It leaves out boxes of which little is in the image: here none of the best.
    best = found[:50]
    assert len(best) == 50
    names = [NAMES[int(number)] for number in wanted["classes"][0, :50]]
    scores = [each.categories[0].score for each in best]
    assert [each.categories[0].category_name for each in best] == names
    np.testing.assert_allclose(scores, wanted["scores"][0, :50], atol=1e-6)
