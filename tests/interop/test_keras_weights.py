import jax
import numpy as np
import pytest

from configs import quickstart, ssd300_voc
from ssd_jax.errors import UserError
from ssd_jax.interop.keras_weights import load_vgg16, vgg16_from_keras
from ssd_jax.models.network import build_network


@pytest.fixture(scope="module")
def keras_vgg16():
    import keras

    import ssd_jax.data  # noqa: F401  quiets TensorFlow, which Keras imports

    return keras.applications.VGG16(weights=None)


@pytest.fixture(scope="module")
def imported(keras_vgg16):
    network = build_network(ssd300_voc.get_config().model, num_classes=20)
    parameters, _ = network.init(0)
    return parameters, vgg16_from_keras(parameters, keras_vgg16)


def test_convolutions_are_taken_over(keras_vgg16, imported):
    backbone = imported[1]["backbone"]
    kernel, bias = keras_vgg16.get_layer("block4_conv2").get_weights()
    np.testing.assert_array_equal(backbone["conv4_2"]["conv"]["kernel"], kernel)
    np.testing.assert_array_equal(backbone["conv4_2"]["conv"]["bias"], bias)
    # Keras' first convolution reads BGR, ours RGB.
    kernel = keras_vgg16.get_layer("block1_conv1").get_weights()[0]
    np.testing.assert_array_equal(backbone["conv1_1"]["conv"]["kernel"][:, :, 0], kernel[:, :, 2])


def test_fully_connected_layers_are_subsampled(keras_vgg16, imported):
    backbone = imported[1]["backbone"]
    fc1 = keras_vgg16.get_layer("fc1").get_weights()[0]
    fc2 = keras_vgg16.get_layer("fc2").get_weights()[0]
    fc6, fc7 = (backbone[name]["conv"]["kernel"] for name in ("fc6", "fc7"))
    for y, x, channel, output in ((0, 0, 0, 0), (1, 2, 100, 7), (2, 2, 511, 1023)):
        flat = (3 * y * 7 + 3 * x) * 512 + channel
        assert fc6[y, x, channel, output] == fc1[flat, 4 * output]
    assert fc7[0, 0, 5, 9] == fc2[20, 36]
    assert fc6.shape == (3, 3, 512, 1024)


def test_everything_else_stays(imported):
    before, after = imported
    assert jax.tree.structure(before) == jax.tree.structure(after)
    np.testing.assert_array_equal(
        before["backbone"]["conv4_3_norm"]["weight"], after["backbone"]["conv4_3_norm"]["weight"]
    )
    assert before["heads"] is after["heads"]


def test_a_small_network_is_refused(keras_vgg16):
    parameters, _ = build_network(quickstart.get_config().model, num_classes=5).init(0)
    with pytest.raises(UserError, match=r"need config\.model\.width 1\.0"):
        vgg16_from_keras(parameters, keras_vgg16)


def test_weights_that_cannot_be_had_are_explained(imported):
    with pytest.raises(UserError, match=r"/no/such\.h5.*To start from scratch: --config\.init="):
        load_vgg16(imported[0], "/no/such.h5")
