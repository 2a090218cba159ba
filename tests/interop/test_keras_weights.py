import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from configs import ssd300_coco_mmdetection, ssd300_voc
from configs.ablations import table2
from ssd_jax.config.schema import as_config
from ssd_jax.errors import UserError
from ssd_jax.interop.keras_weights import APPLICATIONS, arrays_from_keras, load_application
from ssd_jax.interop.transfer import Classes, flatten, transfer
from ssd_jax.models.layers import max_pool
from ssd_jax.models.mobilenet_v2 import MobileNetV2
from ssd_jax.models.network import build_network
from ssd_jax.models.ssd import BACKBONES
from ssd_jax.models.vgg import STAGES


def random_model(backbone):
    """Keras' network with random weights, and statistics of batch norm that are not trivial."""
    import keras

    import ssd_jax.data  # noqa: F401  quiets TensorFlow, which Keras imports

    model = getattr(keras.applications, APPLICATIONS[backbone].name)(weights=None)
    random = np.random.default_rng(0)
    for layer in model.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            scale, shift, mean, variance = layer.get_weights()
            layer.set_weights(
                [
                    random.uniform(0.5, 1.5, scale.shape),
                    random.normal(0, 0.2, shift.shape),
                    random.normal(0, 0.2, mean.shape),
                    random.uniform(0.001, 2, variance.shape),
                ]
            )
        elif type(layer) is keras.layers.Conv2D and layer.use_bias:
            kernel, bias = layer.get_weights()
            layer.set_weights([kernel, random.normal(0, 0.2, bias.shape)])
    return model


@pytest.fixture(scope="module")
def keras_vgg16():
    return random_model("vgg16")


def features_of(model, names, image):
    """The outputs of some layers in Keras."""
    import keras

    outputs = [model.get_layer(name).output for name in names]
    features = keras.Model(model.inputs, outputs).predict(image, verbose=0)
    return features if len(names) > 1 else [features]


def filled_backbone(backbone, model):
    """One of our backbones with Keras' weights in it."""
    description = BACKBONES[backbone]
    module = nnx.eval_shape(
        lambda: description.make(
            width=1.0, batch_norm=description.needs_batch_norm, dtype=jnp.float32, rngs=nnx.Rngs(0)
        )
    )
    graph, *states = nnx.split(module, nnx.Param, nnx.BatchStat)
    shapes = tuple({"backbone": nnx.to_pure_dict(state)} for state in states)
    variables = jax.tree.map(lambda array: np.ones(array.shape, array.dtype), shapes)
    result = transfer(variables, arrays_from_keras(model, backbone), Classes(()), ())
    new = [name for name, _, status in result.statuses if status != "copied"]
    assert set(new) <= {"backbone/conv4_3_norm/weight"} and not result.unused
    return nnx.merge(graph, *(tree["backbone"] for tree in result.variables))


def assert_close(ours, theirs):
    theirs = np.asarray(theirs)
    assert ours.shape == theirs.shape
    assert np.abs(ours - theirs).max() < 1e-4 * np.abs(theirs).max()


@pytest.mark.slow
def test_vgg16_computes_what_keras_computes(keras_vgg16):
    image = np.random.default_rng(1).normal(0, 50, (1, 224, 224, 3)).astype(np.float32)
    backbone = filled_backbone("vgg16", keras_vgg16)

    @nnx.jit
    def to_conv5_3(backbone, x):
        for stage, channels in enumerate(STAGES, start=1):
            for index in range(1, len(channels) + 1):
                x = getattr(backbone, f"conv{stage}_{index}")(x, False)
            if stage < 5:
                x = max_pool(x, 2, 2, "CEIL")
        return x

    # Theirs reads blue, green, red.
    (theirs,) = features_of(keras_vgg16, ["block5_conv3"], image[..., ::-1])
    assert_close(to_conv5_3(backbone, image), theirs)


@pytest.mark.slow
def test_resnet50_computes_what_keras_computes():
    """Up to the third stage, whose stride differs."""
    model = random_model("resnet50_keras")
    image = np.random.default_rng(1).normal(0, 50, (1, 224, 224, 3)).astype(np.float32)
    backbone = filled_backbone("resnet50_keras", model)

    @nnx.jit
    def to_third_stage(backbone, image):
        x = backbone.conv1(image, False)
        x = nnx.max_pool(x, (3, 3), strides=(2, 2), padding=((1, 1), (1, 1)))
        for block in list(backbone.blocks)[:7]:
            x = block(x, False)
        return x

    (theirs,) = features_of(model, ["conv3_block4_out"], image[..., ::-1])
    assert_close(to_third_stage(backbone, image), theirs)


@pytest.mark.slow
def test_mobilenet_v2_computes_what_keras_computes():
    model = random_model("mobilenet_v2_tensorflow")
    image = np.random.default_rng(1).uniform(-1, 1, (1, 224, 224, 3)).astype(np.float32)
    backbone = filled_backbone("mobilenet_v2_tensorflow", model)
    ours = nnx.jit(MobileNetV2.__call__, static_argnames="train")(backbone, image, train=False)
    theirs = features_of(model, ["block_13_expand_relu", "out_relu"], image)
    for one, other in zip(ours, theirs, strict=True):
        assert_close(one, other)


def test_fully_connected_layers_are_subsampled(keras_vgg16):
    arrays = arrays_from_keras(keras_vgg16, "vgg16")
    fc1 = keras_vgg16.get_layer("fc1").get_weights()[0]
    fc2 = keras_vgg16.get_layer("fc2").get_weights()[0]
    fc6, fc7 = (arrays[f"backbone/{name}/conv/kernel"] for name in ("fc6", "fc7"))
    for y, x, channel, output in ((0, 0, 0, 0), (1, 2, 100, 7), (2, 2, 511, 1023)):
        flat = (3 * y * 7 + 3 * x) * 512 + channel
        assert fc6[y, x, channel, output] == fc1[flat, 4 * output]
    assert fc7[0, 0, 5, 9] == fc2[20, 36]
    assert fc6.shape == (3, 3, 512, 1024)


def test_without_dilation_fully_connected_layers_are_not_subsampled(keras_vgg16):
    fc1 = keras_vgg16.get_layer("fc1").get_weights()[0]
    fc6 = arrays_from_keras(keras_vgg16, "vgg16_whole")["backbone/fc6/conv/kernel"]
    assert fc6[1, 2, 100, 7] == fc1[(1 * 7 + 2) * 512 + 100, 7]


@pytest.mark.parametrize(
    "config",
    [ssd300_voc.get_config(), ssd300_coco_mmdetection.get_config(), table2.get_config("no_atrous")],
)
def test_keras_weights_fill_the_backbone_except_for_the_norm(keras_vgg16, config):
    network = build_network(as_config(config).model, num_classes=20)
    shapes = {
        path: variable.shape
        for path, variable in flatten(network.variable_shapes()).items()
        if path.startswith("backbone/")
    }
    del shapes["backbone/conv4_3_norm/weight"]
    arrays = arrays_from_keras(keras_vgg16, config.model.backbone)
    assert {path: array.shape for path, array in arrays.items()} == shapes


def test_weights_that_cannot_be_loaded_are_reported():
    with pytest.raises(UserError, match=r"/no/such\.h5.*To start from scratch: --config\.init="):
        load_application("vgg16", "/no/such.h5")
