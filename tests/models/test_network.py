import jax
import jax.numpy as jnp
import numpy as np
import pytest

from configs import (
    quickstart,
    ssd300_coco,
    ssd300_resnet50_coco,
    ssd300_voc,
    ssd512_coco,
    ssd512_voc,
    ssd_small,
    ssdlite300_mobilenetv2_coco,
)
from ssd_jax.errors import UserError
from ssd_jax.models.layers import L2Norm, max_pool_2x2, scaled
from ssd_jax.models.network import build_network
from ssd_jax.parallel import DEVICES
from tests import tiny


def count(tree) -> int:
    return sum(leaf.size for leaf in jax.tree.leaves(tree))


@pytest.mark.parametrize(
    "config, num_classes, num_parameters, num_statistics",
    [
        (ssd300_voc, 20, 26_285_486, 0),
        (ssd300_coco, 80, 34_305_206, 0),
        (ssd512_voc, 20, 27_188_676, 0),
        (ssd512_coco, 80, 36_038_196, 0),
        (ssd300_resnet50_coco, 80, 22_894_902, 35_968),
        (ssdlite300_mobilenetv2_coco, 80, 4_445_876, 50_368),
    ],
)
def test_networks_have_as_many_parameters_as_the_reference(
    config, num_classes, num_parameters, num_statistics
):
    network = build_network(config.get_config().model, num_classes)
    parameters, batch_stats = network.variable_shapes()
    assert count(parameters) == num_parameters
    assert count(batch_stats) == num_statistics


@pytest.mark.parametrize(
    "config",
    [
        ssd300_voc,
        ssd300_coco,
        ssd512_voc,
        ssd512_coco,
        ssd300_resnet50_coco,
        ssdlite300_mobilenetv2_coco,
        ssd_small,
        quickstart,
    ],
)
def test_every_config_gives_as_many_outputs_as_default_boxes(config):
    model = config.get_config().model
    network = build_network(model, num_classes=20)
    images = jax.ShapeDtypeStruct((1, 2, model.image_size, model.image_size, 3), jnp.float32)
    variables = network.variable_shapes()
    num_boxes = len(network.default_boxes())
    for train in (False, True):
        # One device of its own, for batch norm.
        apply = jax.vmap(
            lambda *inputs, train=train: network.apply(*inputs, train),
            in_axes=(None, None, 0),
            axis_name=DEVICES,
        )
        (offsets, logits), batch_stats = jax.eval_shape(apply, *variables, images)
        assert offsets.shape == (1, 2, num_boxes, 4)
        assert logits.shape == (1, 2, num_boxes, 21)
        assert jax.tree.structure(batch_stats) == jax.tree.structure(variables[1])


def test_precision_is_of_the_computation_alone():
    config = tiny.get_config().model
    image = np.random.default_rng(0).normal(0, 60, (2, 64, 64, 3)).astype(np.float32)
    outputs = {}
    for precision in ("float32", "bfloat16"):
        config.precision = precision
        network = build_network(config, num_classes=5)
        variables = network.init(0)
        assert {leaf.dtype for leaf in jax.tree.leaves(variables)} == {jnp.dtype("float32")}
        outputs[precision], _ = network.apply(*variables, image, train=False)
    for exact, rough in zip(outputs["float32"], outputs["bfloat16"], strict=True):
        assert rough.dtype == jnp.float32
        error = np.linalg.norm(rough - exact) / np.linalg.norm(exact)
        assert 1e-5 < error < 0.05


@pytest.mark.parametrize("config", [ssd300_resnet50_coco, ssdlite300_mobilenetv2_coco])
def test_deep_backbones_need_batch_norm(config):
    config = config.get_config().model
    config.batch_norm = False
    with pytest.raises(UserError, match=r"config\.model\.batch_norm is False, but"):
        build_network(config, num_classes=5)


def test_the_seed_decides_the_weights():
    network = build_network(tiny.get_config().model, num_classes=5)
    first, again, other = (jax.tree.leaves(network.init(seed)) for seed in (1, 1, 2))
    assert all((a == b).all() for a, b in zip(first, again, strict=True))
    assert any((a != b).any() for a, b in zip(first, other, strict=True))


def test_new_layers_start_as_in_caffe():
    # Xavier: uniform within √(6 / (inputs + outputs)), and no bias.
    config = tiny.get_config().model
    config.batch_norm = False
    config.width = 0.25
    parameters, _ = build_network(config, num_classes=20).init(0)
    kernels = [parameters["extras"]["narrow"][0]["conv"], parameters["heads"]["logits"][1]]
    for convolution in kernels:
        kernel = np.asarray(convolution["kernel"])
        height, width, inputs, outputs = kernel.shape
        bound = np.sqrt(6 / (height * width * (inputs + outputs)))
        assert 0.98 * bound < np.abs(kernel).max() <= bound
        np.testing.assert_allclose(kernel.std(), bound / np.sqrt(3), rtol=0.05)
        assert not convolution["bias"].any()
    network = build_network(ssd300_voc.get_config().model, num_classes=20)
    scale = network.init(0)[0]["backbone"]["conv4_3_norm"]["weight"]
    np.testing.assert_array_equal(scale, np.full(512, 20))


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
    pooled = max_pool_2x2(x)
    assert pooled.shape == (2, 38, 3, 3)
    padded = np.pad(x, ((0, 0), (0, 1), (0, 1), (0, 0)), constant_values=-np.inf)
    np.testing.assert_array_equal(pooled, padded.reshape(2, 38, 2, 3, 2, 3).max(axis=(2, 4)))


def test_width_gives_multiples_of_eight():
    assert [scaled(64, width) for width in (1.0, 0.25, 0.3, 0.01)] == [64, 16, 16, 8]


@pytest.mark.parametrize(
    "field, value, complaint",
    [
        ("feature_sizes", (9, 4, 2, 1), r"\(9, 4, 2, 1\), but an input of 64 pixels gives.*\(8, 4"),
        ("feature_sizes", (8, 4, 2), "steps has 4 entries, but feature_sizes has 3"),
        ("extra_blocks", ((256, 512, 3, 2, 1),), "maps of vgg16 and 1 extra_blocks make 3"),
        ("backbone", "vgg", "'vgg', but must be one of vgg16, resnet50, mobilenet_v2"),
        ("precision", "float16", "'float16', but must be one of float32, bfloat16"),
    ],
)
def test_a_model_that_does_not_fit_is_refused(field, value, complaint):
    config = tiny.get_config().model.unlock()
    config[field] = value
    with pytest.raises(UserError, match=complaint):
        build_network(config, num_classes=5)
