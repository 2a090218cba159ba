import functools
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special
from flax import nnx

from configs import (
    ssd300_resnet50_coco,
    ssdlite300_mobilenetv2_coco,
    ssdlite320_mobilenetv3_coco,
)
from ssd_jax.config.schema import as_config
from ssd_jax.errors import UserError
from ssd_jax.models.heads import PredictionHeads
from ssd_jax.models.layers import (
    NORM,
    BatchNorm,
    ConvOptions,
    DepthwiseConv,
    L2Norm,
    max_pool,
    relu,
    scaled,
)
from ssd_jax.models.mobilenet_v2 import MobileNetV2
from ssd_jax.models.network import CountedKeys, build_network
from ssd_jax.models.vgg import VGG16
from tests import tiny
from tests.helpers.all_configs import ALL_CONFIGS


def tiny_model(**changes):
    """The model of the tiny config, with other values."""
    config = as_config(tiny.get_config())
    return config.replace({f"model.{field}": value for field, value in changes.items()}).model


def outputs_of(network, variables, images):
    """Offsets and logits, compiled."""
    apply = jax.jit(network.apply, static_argnames="train")
    return apply(*variables, images, train=False)[0]


def test_maps_without_boxes_are_not_predicted_from():
    shapes = ((), ((8, 8), (12, 12)), (), ((40, 40),))
    network = build_network(tiny_model(shapes=shapes), num_classes=5)
    assert network.tiling.num_boxes == 4 * 4 * 2 + 1
    variables = network.init(0)
    assert set(variables[0]["heads"]["logits"]) == {1, 3}
    offsets, logits = outputs_of(network, variables, jnp.zeros((1, 64, 64, 3)))
    assert offsets.shape == (1, 33, 4) and logits.shape == (1, 33, 6)


def grouped_convolution(x, kernel, stride, padding):
    pads = padding if padding == "SAME" else [(padding, padding)] * 2
    return jax.lax.conv_general_dilated(
        x,
        kernel,
        (stride, stride),
        pads,
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
        feature_group_count=x.shape[-1],
    )


def on_accelerators(*arguments, default, **_):
    """Replaces `jax.lax.platform_dependent`: uses the branch of other devices than CPUs."""
    return default(*arguments)


@pytest.mark.parametrize("size", [7, 10])
@pytest.mark.parametrize(
    "kernel, stride, padding",
    [(3, 1, 1), (3, 2, 1), (3, 1, "SAME"), (3, 2, "SAME"), (3, 2, 0), (5, 2, 2)],
)
def test_depthwise_convolution_equals_a_grouped_one(size, kernel, stride, padding, monkeypatch):
    layer = DepthwiseConv(
        8,
        kernel,
        stride=stride,
        padding=padding,
        use_bias=True,
        kernel_init=nnx.initializers.normal(1.0),
        dtype=jnp.float32,
        rngs=nnx.Rngs(0),
    )
    layer.bias[...] = jnp.arange(8.0)
    x = jax.random.normal(jax.random.key(1), (2, size, size, 8))
    wanted = grouped_convolution(x, layer.kernel[...], stride, padding) + jnp.arange(8.0)
    np.testing.assert_allclose(jax.jit(layer)(x), wanted, rtol=1e-4, atol=1e-5)

    graph, weights = nnx.split(layer)

    def ours(x, weights):
        return jnp.sum(jnp.sin(nnx.merge(graph, weights)(x)))

    def theirs(x, kernel):
        grouped = grouped_convolution(x, kernel, stride, padding)
        return jnp.sum(jnp.sin(grouped + jnp.arange(8.0)))

    kernel = layer.kernel[...]
    wanted = jax.grad(theirs, argnums=(0, 1))(x, kernel)
    for platform_dependent in (jax.lax.platform_dependent, on_accelerators):
        monkeypatch.setattr(jax.lax, "platform_dependent", platform_dependent)
        of_x, of_weights = jax.grad(ours, argnums=(0, 1))(x, weights)
        np.testing.assert_allclose(of_x, wanted[0], rtol=1e-3, atol=1e-4)
        np.testing.assert_allclose(of_weights["kernel"][...], wanted[1], rtol=1e-3, atol=1e-4)


def test_mobilenet_pads_as_pytorch_or_as_tensorflow():
    """An even map: PyTorch's windows begin a pixel before it, TensorFlow's end one after it."""
    options = dict(width=0.01, batch_norm=False, dtype=jnp.float32)
    x = jnp.zeros((1, 64, 64, 3)).at[0, 0, 0, 0].set(1.0)
    for same_padding, tap in ((False, (1, 1)), (True, (0, 0))):
        network = MobileNetV2(same_padding=same_padding, rngs=nnx.Rngs(0), **options)
        kernel = jnp.zeros((3, 3, 3, 8)).at[*tap, 0, 0].set(1.0)
        network.first.conv.kernel[...] = kernel
        y = network.first(x, train=False)
        assert y.shape[1:3] == (32, 32)
        assert y[0, 0, 0, 0] == 1 and jnp.sum(y) == 1


def test_mobilenet_reads_its_finer_map_widened_or_not():
    options = dict(width=1.0, batch_norm=False, dtype=jnp.float32)
    for widened, channels in ((True, 576), (False, 96)):
        network = nnx.eval_shape(
            lambda widened=widened: MobileNetV2(widened=widened, rngs=nnx.Rngs(0), **options)
        )
        image = jax.ShapeDtypeStruct((1, 64, 64, 3), jnp.float32)
        fine, coarse = nnx.eval_shape(lambda m, x: m(x, train=False), network, image)
        assert fine.shape == (1, 4, 4, channels) and coarse.shape == (1, 2, 2, 1280)
        assert network.out_channels == (channels, 1280)
    three = nnx.eval_shape(lambda: MobileNetV2(finest=8, rngs=nnx.Rngs(0), **options))
    maps = nnx.eval_shape(lambda m, x: m(x, train=False), three, image)
    assert [fine.shape[1:] for fine in maps] == [(8, 8, 192), (4, 4, 576), (2, 2, 1280)]
    assert three.out_channels == (192, 576, 1280)


# One config of each network.
DISTINCT = {ALL_CONFIGS[name].model.model_dump_json(): name for name in ALL_CONFIGS}.values()


@pytest.mark.parametrize("name", DISTINCT)
@pytest.mark.slow
def test_every_config_gives_as_many_outputs_as_default_boxes(name):
    model = ALL_CONFIGS[name].model
    network = build_network(model, num_classes=20)
    images = jax.ShapeDtypeStruct((2, model.image_size, model.image_size, 3), jnp.float32)
    variables = network.variable_shapes()
    num_boxes = len(network.default_boxes())
    apply = functools.partial(network.apply, train=True)
    (offsets, logits), batch_stats = jax.eval_shape(apply, *variables, images)
    assert offsets.shape == (2, num_boxes, 4)
    assert logits.shape == (2, num_boxes, 21)
    assert jax.tree.structure(batch_stats) == jax.tree.structure(variables[1])


def test_precision_is_of_the_computation_alone():
    image = np.random.default_rng(0).normal(0, 60, (2, 64, 64, 3)).astype(np.float32)
    outputs = {}
    for precision in ("float32", "bfloat16"):
        network = build_network(tiny_model(precision=precision), num_classes=5)
        variables = network.init(0)
        assert {leaf.dtype for leaf in jax.tree.leaves(variables)} == {jnp.dtype("float32")}
        outputs[precision] = outputs_of(network, variables, image)
    for exact, rough in zip(outputs["float32"], outputs["bfloat16"], strict=True):
        assert rough.dtype == jnp.float32
        error = np.linalg.norm(rough - exact) / np.linalg.norm(exact)
        assert 1e-5 < error < 0.05


@pytest.mark.parametrize(
    "config, momentum, epsilon",
    [(ssdlite300_mobilenetv2_coco, 0.9, 1e-5), (ssdlite320_mobilenetv3_coco, 0.97, 1e-3)],
)
def test_batch_norm_has_the_options_of_the_backbone_in_every_layer(config, momentum, epsilon):
    module = build_network(as_config(config.get_config()).model, 1)._abstract_module
    norms = [node for _, node in nnx.iter_graph(module) if isinstance(node, BatchNorm)]
    assert {(norm.momentum, norm.epsilon) for norm in norms} == {(momentum, epsilon)}
    assert len(norms) > 60


def test_mobilenet_v3_reads_minus_one_to_one():
    network = build_network(as_config(ssdlite320_mobilenetv3_coco.get_config()).model, 1)
    np.testing.assert_array_equal(network.normalise(np.array([0, 127.5, 255])), [-1, 0, 1])


@pytest.mark.parametrize("config", [ssd300_resnet50_coco, ssdlite300_mobilenetv2_coco])
def test_deep_backbones_need_batch_norm(config):
    config = as_config(config.get_config()).replace({"model.batch_norm": False})
    with pytest.raises(UserError, match=r"config\.model\.batch_norm is False, but"):
        build_network(config.model, num_classes=5)


@pytest.mark.slow
def test_the_seed_decides_the_weights():
    network = build_network(as_config(tiny.get_config()).model, num_classes=5)
    compilations = []
    jax.monitoring.register_event_duration_secs_listener(
        lambda event, *_, **__: compilations.append(event) if "backend_compile" in event else None
    )
    first, again, other = (jax.tree.leaves(network.init(seed)) for seed in (1, 1, 2))
    assert all((a == b).all() for a, b in zip(first, again, strict=True))
    assert any((a != b).any() for a, b in zip(first, other, strict=True))
    # Seeds share one program; the others make keys.
    count = len(compilations)
    network.init(3), network.init(4)
    assert count > 0 and len(compilations) == count


@pytest.mark.parametrize("separable", [False, True])
def test_a_prior_is_the_probability_of_an_object_of_every_box(separable):
    zeros = nnx.initializers.zeros
    options = ConvOptions(
        batch_norm=True,
        activation=relu,
        kernel_init=zeros,
        dtype=jnp.float32,
        rngs=nnx.Rngs(0),
        norm=NORM,
    )
    heads = PredictionHeads(
        (2, 2, 2), (3, 0, 1), 6, separable=separable, kernel_init=zeros, options=options
    )
    before = nnx.to_pure_dict(nnx.state(heads))
    heads.set_prior(0.01)
    after = nnx.to_pure_dict(nnx.state(heads))
    for index, boxes in ((0, 3), (2, 1)):
        new, old = (
            (head["pointwise"] if separable else head).pop("bias")
            for head in (after["logits"][index], before["logits"][index])
        )
        assert not old.any()
        expected = [[0.99] + [0.01 / 5] * 5] * boxes
        np.testing.assert_allclose(
            scipy.special.softmax(new.reshape(-1, 6), axis=1), expected, 1e-5
        )
    jax.tree.map(np.testing.assert_array_equal, after, before)


def test_weights_are_made_of_the_keys_of_flax():
    keys, flax_keys = CountedKeys(jax.random.key(3)), nnx.Rngs(3)
    for _ in range(3):
        np.testing.assert_array_equal(
            *map(jax.random.key_data, (keys.params(), flax_keys.params()))
        )


@pytest.mark.slow
def test_new_layers_start_as_in_caffe():
    # Xavier: uniform within √(6 / (inputs + outputs)), and no bias.
    model = tiny_model(batch_norm=False, width=0.25)
    parameters, _ = build_network(model, num_classes=20).init(0)
    kernels = [parameters["extras"]["narrow"][0]["conv"], parameters["heads"]["logits"][1]]
    for convolution in kernels:
        kernel = np.asarray(convolution["kernel"])
        height, width, inputs, outputs = kernel.shape
        bound = np.sqrt(6 / (height * width * (inputs + outputs)))
        assert 0.98 * bound < np.abs(kernel).max() <= bound
        np.testing.assert_allclose(kernel.std(), bound / np.sqrt(3), rtol=0.05)
        assert not convolution["bias"].any()
    scale = parameters["backbone"]["conv4_3_norm"]["weight"]
    np.testing.assert_array_equal(scale, np.full(128, 10))


def test_conv4_3_of_the_paper_starts_with_a_scale_of_20():
    @jax.jit  # which leaves out the other weights
    def scale():
        backbone = VGG16(width=1.0, batch_norm=False, dtype=jnp.float32, rngs=nnx.Rngs(0))
        return backbone.conv4_3_norm.weight[...]

    np.testing.assert_array_equal(scale(), np.full(512, 20))


def test_l2norm_by_hand():
    norm = L2Norm(2, 20.0)
    np.testing.assert_allclose(norm(jnp.array([[3.0, 4.0]])), [[12.0, 16.0]], rtol=1e-6)
    np.testing.assert_allclose(norm(jnp.zeros((1, 2))), [[0.0, 0.0]])
    # Every cell for itself, and a weight for each channel.
    norm.weight[...] = jnp.array([10.0, 1.0])
    cells = jnp.array([[[3.0, 4.0], [0.0, 1e-5]]])
    small = 1e-5 / np.sqrt(1e-10 + 1e-10)  # the epsilon counts where there is next to nothing
    np.testing.assert_allclose(norm(cells), [[[6.0, 0.8], [0.0, small]]], rtol=1e-6)


def test_pooling_rounds_up_and_equals_a_window():
    x = jax.random.normal(jax.random.key(0), (2, 75, 5, 3))
    pooled = max_pool(x, 2, 2, "CEIL")
    assert pooled.shape == (2, 38, 3, 3)
    padded = np.pad(x, ((0, 0), (0, 1), (0, 1), (0, 0)), constant_values=-np.inf)
    np.testing.assert_array_equal(pooled, padded.reshape(2, 38, 2, 3, 2, 3).max(axis=(2, 4)))


@pytest.mark.parametrize(
    "window, stride, padding, size",
    [(2, 2, "CEIL", 8), (2, 2, "CEIL", 7), (3, 1, 1, 7), (3, 2, 1, 8)],
)
def test_pooling_and_its_gradient_equal_those_of_xla(window, stride, padding, size):
    # Whole numbers, so that many are equal, and some below zero.
    x = jax.random.randint(jax.random.key(0), (2, size, size, 3), -3, 3).astype(jnp.float32)
    before, after = (0, -size % 2) if padding == "CEIL" else (padding, padding)

    def windows(x):
        pads = ((0, 0), (before, after), (before, after), (0, 0))
        sides, strides = (1, window, window, 1), (1, stride, stride, 1)
        return jax.lax.reduce_window(x, -jnp.inf, jax.lax.max, sides, strides, pads)

    @functools.partial(jax.jit, static_argnums=0)
    def with_gradient(pool, x):
        pooled, back = jax.vjp(pool, x)
        gradient = jax.random.randint(jax.random.key(1), pooled.shape, -9, 9)
        return pooled, *back(gradient.astype(jnp.float32))

    ours = with_gradient(lambda x: max_pool(x, window, stride, padding), x)
    jax.tree.map(np.testing.assert_array_equal, ours, with_gradient(windows, x))


def test_relu_and_its_gradient():
    x = jnp.array([-2.0, 0.0, 0.25, 3.0])
    y, back = jax.vjp(relu, x)
    np.testing.assert_array_equal(y, [0, 0, 0.25, 3])
    np.testing.assert_array_equal(back(jnp.full(4, 5.0))[0], [0, 0, 5, 5])


def test_the_precision_of_products_reaches_the_gradient():
    for precision, products in (("float32", "HIGHEST"), ("tf32", "HIGH"), ("bfloat16", "DEFAULT")):
        network = build_network(tiny_model(precision=precision), num_classes=2)

        def loss(parameters, statistics, images, network=network):
            (offsets, _), _ = network.apply(parameters, statistics, images, train=False)
            return offsets.sum()

        image = jax.ShapeDtypeStruct((1, 64, 64, 3), jnp.float32)
        lowered = jax.jit(jax.grad(loss)).lower(*network.variable_shapes(), image).as_text()
        found = set(re.findall(r"#stablehlo<precision (\w+)>", lowered))
        assert found <= {products} and (found or products == "DEFAULT")


def test_width_gives_multiples_of_eight():
    assert [scaled(64, width) for width in (1.0, 0.25, 0.3, 0.01)] == [64, 16, 16, 8]


@pytest.mark.parametrize(
    "field, value, complaint",
    [
        ("feature_sizes", (9, 4, 2, 1), r"\(9, 4, 2, 1\), but an input of 64 pixels .*=8,4,2,1"),
        ("feature_sizes", (8, 4, 2), "strides has 4 entries, but feature_sizes has 3"),
        ("extra_blocks", ((256, 512, 3, 2, 1),), "maps of vgg16 and 1 extra_blocks make 3"),
        ("backbone", "vgg", "'vgg', but must be one of vgg16, vgg16_mmdetection, "),
        ("precision", "float16", "'float16', but must be 'float32', 'tf32' or 'bfloat16'"),
    ],
)
def test_a_model_that_does_not_fit_is_refused(field, value, complaint):
    with pytest.raises(UserError, match=complaint):
        build_network(tiny_model(**{field: value}), num_classes=5)
