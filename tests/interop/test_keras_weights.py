import numpy as np
import pytest

from configs import ssd300_voc
from configs.ablations import table2
from ssd_jax.errors import UserError
from ssd_jax.interop.keras_weights import load_vgg16, vgg16_arrays
from ssd_jax.interop.transfer import flatten
from ssd_jax.models.network import build_network


@pytest.fixture(scope="module")
def keras_vgg16():
    import keras

    import ssd_jax.data  # noqa: F401  quiets TensorFlow, which Keras imports

    return keras.applications.VGG16(weights=None)


@pytest.fixture(scope="module")
def arrays(keras_vgg16):
    return vgg16_arrays(keras_vgg16)


def test_convolutions_are_taken_over(keras_vgg16, arrays):
    kernel, bias = keras_vgg16.get_layer("block4_conv2").get_weights()
    np.testing.assert_array_equal(arrays["backbone/conv4_2/conv/kernel"], kernel)
    np.testing.assert_array_equal(arrays["backbone/conv4_2/conv/bias"], bias)
    # Keras' first convolution reads BGR, ours RGB.
    kernel = keras_vgg16.get_layer("block1_conv1").get_weights()[0]
    np.testing.assert_array_equal(arrays["backbone/conv1_1/conv/kernel"][:, :, 0], kernel[:, :, 2])


def test_fully_connected_layers_are_subsampled(keras_vgg16, arrays):
    fc1 = keras_vgg16.get_layer("fc1").get_weights()[0]
    fc2 = keras_vgg16.get_layer("fc2").get_weights()[0]
    fc6, fc7 = (arrays[f"backbone/{name}/conv/kernel"] for name in ("fc6", "fc7"))
    for y, x, channel, output in ((0, 0, 0, 0), (1, 2, 100, 7), (2, 2, 511, 1023)):
        flat = (3 * y * 7 + 3 * x) * 512 + channel
        assert fc6[y, x, channel, output] == fc1[flat, 4 * output]
    assert fc7[0, 0, 5, 9] == fc2[20, 36]
    assert fc6.shape == (3, 3, 512, 1024)


def test_without_atrous_they_are_whole(keras_vgg16):
    fc1 = keras_vgg16.get_layer("fc1").get_weights()[0]
    fc6 = vgg16_arrays(keras_vgg16, atrous=False)["backbone/fc6/conv/kernel"]
    assert fc6[1, 2, 100, 7] == fc1[(1 * 7 + 2) * 512 + 100, 7]


@pytest.mark.parametrize(
    "config, atrous", [(ssd300_voc.get_config(), True), (table2.get_config("no_atrous"), False)]
)
def test_they_fill_the_backbone_but_for_the_norm(keras_vgg16, config, atrous):
    network = build_network(config.model, num_classes=20)
    shapes = {
        path: variable.shape
        for path, variable in flatten(network.variable_shapes()).items()
        if path.startswith("backbone/")
    }
    del shapes["backbone/conv4_3_norm/weight"]
    arrays = vgg16_arrays(keras_vgg16, atrous)
    assert {path: array.shape for path, array in arrays.items()} == shapes


def test_weights_that_cannot_be_had_are_explained():
    with pytest.raises(UserError, match=r"/no/such\.h5.*To start from scratch: --config\.init="):
        load_vgg16("/no/such.h5")
