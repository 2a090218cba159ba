import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ssd_jax.models.convolution import Geometry, _plain, convolution, plain_convolutions
from ssd_jax.models.winograd import kernel_gradient, winograd


def whole_numbers(random, *shape):
    """Random whole numbers, whose sums, also of their halves and quarters, are exact."""
    return jnp.float32(random.integers(-4, 5, shape))


@pytest.mark.parametrize("tiles", [1, 8, 1000])  # bands of rows, single images, all at once
@pytest.mark.parametrize("pads", [((1, 1), (1, 1)), ((0, 0), (2, 2)), ((0, 1), (1, 0))])
@pytest.mark.parametrize("size", [(8, 5), (3, 4)])
def test_equals_the_plain_algorithm(size, pads, tiles, monkeypatch):
    monkeypatch.setattr("ssd_jax.models.winograd.TILES", tiles)
    random = np.random.default_rng(0)
    x, kernel = whole_numbers(random, 3, *size, 5), whole_numbers(random, 3, 3, 5, 7)
    geometry = Geometry((1, 1), pads, (1, 1), None)
    expected, back = jax.vjp(lambda kernel: _plain(x, kernel, geometry), kernel)
    np.testing.assert_array_equal(winograd(x, kernel, pads), expected)
    gradient = whole_numbers(random, *expected.shape)
    np.testing.assert_array_equal(kernel_gradient(x, gradient, pads), back(gradient)[0])


def test_large_convolutions_on_a_cpu_and_their_gradients_use_winograd(monkeypatch):
    monkeypatch.setattr("ssd_jax.models.convolution.MANY_PRODUCTS", 20 * 20 * 128 * 128)
    random = np.random.default_rng(0)
    x, kernel = whole_numbers(random, 1, 20, 20, 128), whole_numbers(random, 3, 3, 128, 160)
    geometry = Geometry((1, 1), ((1, 1), (1, 1)), (1, 1), None)

    def outputs_and_gradients(x, kernel):
        outputs, back = jax.vjp(lambda *both: convolution(*both, geometry), x, kernel)
        return outputs, back(jnp.round(outputs / 100))

    def num_convolutions(platform):
        traced = jax.jit(lambda *both: outputs_and_gradients(*both)).trace(x, kernel)
        program = traced.lower(lowering_platforms=(platform,)).as_text()
        return program.count("stablehlo.convolution")

    ours = outputs_and_gradients(x, kernel)
    assert num_convolutions("cuda") == 3
    assert num_convolutions("cpu") == 0
    with plain_convolutions():
        assert num_convolutions("cpu") == 3
        jax.tree.map(np.testing.assert_array_equal, ours, outputs_and_gradients(x, kernel))
