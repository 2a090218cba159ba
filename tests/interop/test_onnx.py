"""ONNX files compute what the network does, in operators of their own."""

from collections import Counter

import jax
import numpy as np
import onnx
import onnxruntime
import pytest

from ssd_jax.config.files import load_config
from ssd_jax.config.schema import DetectorConfig
from ssd_jax.interop.onnx_detector import write_onnx
from ssd_jax.interop.trained import Trained
from ssd_jax.models.input_size import fields_of_size
from ssd_jax.models.network import build_network

NAMES = ("cat", "dog", "fox")
SIZE = 96


def random_trained(settings):
    network = build_network(settings, len(NAMES))
    rng = np.random.default_rng(0)

    def noisy(array):
        return (np.asarray(array) + rng.uniform(0.05, 0.15, array.shape)).astype(np.float32)

    parameters, batch_stats = network.init(0)
    variables = (parameters, jax.tree.map(noisy, batch_stats))
    return Trained(network, variables, NAMES, (1, 5, 9), DetectorConfig(model=settings))


def run(file, images):
    session = onnxruntime.InferenceSession(file)
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(None, {"images": images}), strict=True))


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
