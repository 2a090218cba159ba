"""Batches that exceed the memory."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ssd_jax.config.schema import as_config
from ssd_jax.distributed.memory import check_batch, out_of_memory_as_user_error
from ssd_jax.errors import UserError
from ssd_jax.models.activations import activation_bytes, largest_convolution
from ssd_jax.models.network import build_network
from ssd_jax.runs.batch_memory import batch_memory
from tests import tiny


def test_the_largest_convolution_is_counted_by_hand():
    def convolve(images, kernel):
        return jax.lax.conv_general_dilated(
            images, kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
        )

    @jax.jit  # a program inside of the program
    def two(images, kernel):
        return convolve(convolve(images, kernel), jnp.ones((1, 1, 5, 2)))

    images, kernel = np.zeros((2, 8, 8, 3), np.float32), np.zeros((3, 3, 3, 5), np.float32)
    program = jax.make_jaxpr(two)(images, kernel)
    assert largest_convolution(program.jaxpr) == 4 * 2 * 64 * (3 + 5)
    assert largest_convolution(jax.make_jaxpr(jnp.sin)(1.0).jaxpr) == 0


def test_activations_grow_with_the_batch():
    network = build_network(as_config(tiny.get_config()).model, 5)
    one = activation_bytes(network, 1)
    assert one >= 64 * 64 * 8 * 4 and activation_bytes(network, 1000) == 1000 * one


def test_a_batch_that_exceeds_memory_is_rejected_before_it_runs():
    network = build_network(as_config(tiny.get_config()).model, 5)
    words = r"a batch of 10,000,000 images .* needs at least [\d,.]+ GB .* has .*config.batch_size"
    with pytest.raises(UserError, match=words), batch_memory(network, 10_000_000):
        raise AssertionError
    with batch_memory(network, 4):
        pass
    with pytest.raises(UserError, match=r"needs at least 3,000\.0 GB of memory"):
        check_batch(10**6, 1000, 0, "take fewer")


@pytest.mark.parametrize(
    "error",
    [
        MemoryError("12 GiB"),
        RuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating"),
        RuntimeError("INTERNAL: YNNPACK operation failed: error"),
        Exception("OOM when allocating tensor with shape[8,300]"),  # TensorFlow's own kind
    ],
)
def test_out_of_memory_is_reported(error):
    told = pytest.raises(UserError, match=r"out of memory with a batch of 1,024 .*: take fewer")
    with told, out_of_memory_as_user_error(1024, "take fewer"):
        raise error


def test_other_errors_are_unchanged():
    with pytest.raises(RuntimeError, match="INTERNAL"), out_of_memory_as_user_error(8, ""):
        raise RuntimeError("INTERNAL: something else")
    # TensorStore says so of a full disk.
    with pytest.raises(UserError, match="no space left"), out_of_memory_as_user_error(8, ""):
        raise UserError("RESOURCE_EXHAUSTED: no space left on device")


def test_a_detector_refuses_too_many_at_once(detector):
    taken = []

    def images():
        taken.append(1)
        yield None, detector.prepare(np.zeros((9, 9, 3), np.uint8))

    with pytest.raises(UserError, match=r"a batch of 10,000,000 images .* fewer at a time"):
        list(detector.stream(images(), 10_000_000))
    assert not taken
