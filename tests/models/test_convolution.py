"""Convolutions: several as one, and gradients by products of matrices."""

import functools
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from ssd_jax.models.convolution import (
    Geometry,
    _plain,
    convolution,
    convolve,
)


@pytest.mark.parametrize("padding, stride, dilation", [(1, 1, 1), ("SAME", 2, 1), (6, 1, 6)])
def test_joined_convolutions_equal_separate_ones(padding, stride, dilation):
    for dtype, tolerance in ((jnp.float32, 1e-5), (jnp.bfloat16, 0.03)):
        first, second = (
            nnx.Conv(
                3,
                channels,
                (3, 3),
                strides=(stride, stride),
                padding=padding,
                kernel_dilation=(dilation, dilation),
                bias_init=nnx.initializers.normal(1.0),
                dtype=dtype,
                rngs=nnx.Rngs(channels),
            )
            for channels in (5, 8)
        )
        x = jax.random.normal(jax.random.key(0), (2, 20, 20, 3))
        together = nnx.jit(convolve)(x, first, second)
        assert together.dtype == dtype
        alone = jnp.concatenate([first(x), second(x)], axis=-1)
        np.testing.assert_allclose(
            together.astype(jnp.float32), alone.astype(jnp.float32), rtol=tolerance, atol=tolerance
        )


@pytest.mark.parametrize(
    "dtype, kernel", [(jnp.float32, "3x3x3x12xf32"), (jnp.bfloat16, "3x3x8x16xbf16")]
)
def test_channels_are_filled_for_matrix_units(dtype, kernel):
    ones = dict(strides=(1, 1), kernel_dilation=(1, 1))
    layer = nnx.Conv(3, 12, (3, 3), dtype=dtype, rngs=nnx.Rngs(0), **ones)
    lowered = jax.jit(lambda x: convolve(x, layer)).lower(jnp.zeros((1, 8, 8, 3))).as_text()
    (line,) = re.findall(r"stablehlo\.convolution.*", lowered)
    assert f"tensor<{kernel}>" in line


@pytest.mark.parametrize(
    "kernel, stride, pads, dilation",
    [
        (1, 1, (0, 0), 1),
        (1, 2, (0, 0), 1),
        (1, 1, (1, 1), 1),
        (1, 2, (0, 1), 1),
        (3, 1, (1, 1), 1),
        (3, 2, (1, 1), 1),
        (3, 2, (0, 1), 1),
        (3, 1, (6, 6), 6),
        (3, 1, (0, 0), 1),
        (7, 1, (3, 3), 1),
    ],
)
@pytest.mark.parametrize("piece", [1, 500, 10**9])  # bands of a row, of some rows, all at once
def test_gradients_equal_those_of_xla(kernel, stride, pads, dilation, piece, monkeypatch):
    monkeypatch.setattr("ssd_jax.models.convolution.MANY_CHANNELS", 1)
    monkeypatch.setattr("ssd_jax.models.convolution.PIECE", piece)
    monkeypatch.setattr("ssd_jax.models.convolution.SMALL", 0)
    geometry = Geometry((stride, stride), (pads, pads), (dilation, dilation), None)
    # Whole numbers, of which every sum is exact.
    random = np.random.default_rng(kernel * stride)
    x = jnp.float32(random.integers(-4, 5, (2, 13, 11, 3)))
    weights = jnp.float32(random.integers(-4, 5, (kernel, kernel, 3, 4)))
    plain = functools.partial(_plain, geometry=geometry)
    outputs, back = jax.vjp(plain, x, weights)
    gradient = jnp.float32(random.integers(-4, 5, outputs.shape))
    of_x, of_weights = back(gradient)
    np.testing.assert_array_equal(convolution(x, weights, geometry), outputs)
    _, back = jax.vjp(lambda *arrays: convolution(*arrays, geometry), x, weights)
    jax.tree.map(np.testing.assert_array_equal, back(gradient), (of_x, of_weights))


def test_kernels_of_one_cell_get_their_gradient_by_a_product_on_cpus_alone():
    ones = dict(strides=(1, 1), kernel_dilation=(1, 1))
    layer = nnx.Conv(3, 5, (1, 1), padding=0, rngs=nnx.Rngs(0), **ones)
    graph, weights = nnx.split(layer)

    def loss(weights, x):
        return jnp.sum(convolve(x, nnx.merge(graph, weights)) ** 2)

    traced = jax.jit(jax.grad(loss)).trace(weights, jnp.ones((1, 4, 4, 3)))
    for platform, convolutions in (("cpu", 1), ("cuda", 2), ("tpu", 2)):
        program = traced.lower(lowering_platforms=(platform,)).as_text()
        assert program.count("stablehlo.convolution") == convolutions, platform
