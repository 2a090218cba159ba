"""Lists the convolutions of a network: operations, bytes, and which of them limits it on an H200.

    python -m tools.roofline --config=ssd300_voc

Bytes are for bfloat16, with each map and kernel read or written once. Other operations than
convolutions are left out.
"""

import argparse
import collections

import jax
import jax.numpy as jnp
from jax.extend.core import jaxprs_in_params

from ssd_jax.config.files import load_config
from ssd_jax.models.convolution import plain_convolutions
from ssd_jax.models.network import build_network

OPERATIONS = 790e12  # a second, of a large product in bfloat16
BANDWIDTH = 4.3e12  # bytes a second, of a large copy


def convolutions(config, num_classes=20):
    """(kernel's shape, cells of the output, operations, bytes of the maps, of the kernel)."""
    network, size = build_network(config.model, num_classes), config.model.image_size
    image = jax.ShapeDtypeStruct((1, size, size, 3), jnp.float32)
    with plain_convolutions():
        program = jax.make_jaxpr(lambda *inputs: network.apply(*inputs, train=False)[0])(
            *network.variable_shapes(), image
        )
    for equation in all_equations(program.jaxpr):
        if equation.primitive.name == "conv_general_dilated":
            x, kernel, y = (each.aval for each in (*equation.invars, *equation.outvars))
            cells = y.shape[1] * y.shape[2]
            map_bytes, kernel_bytes = 2 * (x.size + y.size), 2 * kernel.size
            yield kernel.shape, cells, 2 * cells * kernel.size, map_bytes, kernel_bytes


def all_equations(program):
    """The convolutions of a program and of its nested programs."""
    for equation in program.eqns:
        yield equation
        for inner in jaxprs_in_params(equation.params):
            yield from all_equations(inner)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--config", default="ssd300_voc")
    parser.add_argument("--batch_size", type=int, default=128)
    arguments = parser.parse_args()
    config = load_config(arguments.config)
    sums = collections.Counter()
    print(
        f"{'kernel':<18}{'cells':>7}{'GFLOP':>8}{'MB':>8}{'FLOP/byte':>11}{'bound by':>12}{'µs':>7}"
    )
    for kernel, cells, operations, map_bytes, kernel_bytes in convolutions(config):
        size = map_bytes + kernel_bytes / arguments.batch_size
        arithmetic, memory = operations / OPERATIONS, size / BANDWIDTH
        bound = "memory" if memory > arithmetic else "arithmetic"
        shape, seconds = "×".join(map(str, kernel)), max(arithmetic, memory)
        print(
            f"{shape:<18}{cells:>7}{operations / 1e9:>8.2f}{size / 1e6:>8.2f}"
            f"{operations / size:>11.0f}{bound:>12}{seconds * 1e6:>7.2f}"
        )
        sums.update(operations=operations, bytes=size, arithmetic=arithmetic, seconds=seconds)
    print(f"{sums['operations'] / 1e9:.1f} GFLOP and {sums['bytes'] / 1e6:.0f} MB per image")
    print(f"images/s: {1 / sums['arithmetic']:,.0f} by arithmetic alone")
    print(f"images/s: {1 / sums['seconds']:,.0f} by the limit of each convolution")


if __name__ == "__main__":
    main()
