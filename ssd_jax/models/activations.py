"""A lower bound on the memory that the activations of a network need."""

import functools

import jax
import jax.numpy as jnp
from jax.core import ShapedArray
from jax.extend.core import Jaxpr, jaxprs_in_params

from ssd_jax.models.network import Network


@functools.cache
def activation_bytes(network: Network, batch_size: int) -> int:
    """`largest_convolution` of a network for a batch size."""
    size = network.tiling.image_size
    images = jax.ShapeDtypeStruct((batch_size, size, size, 3), jnp.float32)
    parameters, batch_stats = network.variable_shapes()
    run = functools.partial(network.apply, train=False)
    return largest_convolution(jax.make_jaxpr(run)(parameters, batch_stats, images).jaxpr)


def largest_convolution(program: Jaxpr) -> int:
    """Bytes of input plus output of the largest convolution; both are in memory together."""
    largest = 0
    for equation in program.eqns:
        if equation.primitive.name == "conv_general_dilated":
            arrays = [each.aval for each in (equation.invars[0], *equation.outvars)]
            shaped = [each for each in arrays if isinstance(each, ShapedArray)]
            largest = max(largest, sum(each.size * each.dtype.itemsize for each in shaped))
        for inner in jaxprs_in_params(equation.params):
            largest = max(largest, largest_convolution(inner))
    return largest
