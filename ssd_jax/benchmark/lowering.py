"""The train step and detection, lowered for XLA, also for a device that is not present."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from ssd_jax.config.schema import Config
from ssd_jax.distributed.devices import DEVICES
from ssd_jax.errors import UserError
from ssd_jax.models.convolution import plain_convolutions
from ssd_jax.models.network import Variables, build_network
from ssd_jax.models.prediction import make_predict_step
from ssd_jax.training.optimizer import make_optimizer, make_schedule
from ssd_jax.training.state import initial_state
from ssd_jax.training.steps import make_train_step, step_numbers

NUM_CLASSES = 20


def mesh_of(device: Any) -> Mesh:
    """A mesh of one device, real or described, with the axis of steps."""
    return Mesh(np.array([device]), (DEVICES,))


def lower_step(mode: str, config: Config, batch_size: int, mesh: Mesh) -> jax.stages.Lowered:
    """Lowers a function for one device, without weights or images.

    Args:
      mode: "train" for the train step, "predict" for images to detections, "forward" for the
        network alone.
      config: its network and training.
      batch_size: images.
      mesh: see `mesh_of`.
    """
    network = build_network(config.model, NUM_CLASSES)
    shared, split = PartitionSpec(), PartitionSpec(DEVICES)

    def placed(tree: Any, spec: PartitionSpec = shared) -> Any:
        sharding = NamedSharding(mesh, spec)
        return jax.tree.map(
            lambda array: jax.ShapeDtypeStruct(array.shape, array.dtype, sharding=sharding), tree
        )

    def array(shape: tuple[int, ...], dtype: jax.typing.DTypeLike) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct((batch_size, *shape), dtype)

    size, objects = config.model.image_size, config.data.max_objects
    image = array((size, size, 3), jnp.uint8)
    variables = network.variable_shapes()
    if mode == "forward":

        def forward(variables: tuple[Variables, Variables], images: jax.Array) -> Any:
            return network.apply(*variables, network.normalise(images), train=False)[0]

        return jax.jit(forward).lower(placed(variables), placed(image))
    if mode == "predict":
        step = make_predict_step(network, config.detection)
        return jax.jit(step).lower(placed(variables), placed(image))
    optimizer = make_optimizer(config, make_schedule(config))
    step = make_train_step(config, network)
    make_state = functools.partial(initial_state, optimizer=optimizer, averages=config.ema > 0)
    state = jax.eval_shape(make_state, *variables)
    batch = {
        "image": image,
        "window": array((4,), jnp.float32),
        "boxes": array((objects, 4), jnp.float32),
        "labels": array((objects,), jnp.int32),
    }
    on_mesh = jax.shard_map(
        step, mesh=mesh, in_specs=(shared, split, shared), out_specs=shared, check_vma=False
    )
    arguments = placed(state), placed(batch, split), placed(step_numbers(config)(0))
    return jax.jit(on_mesh, donate_argnums=0).lower(*arguments)


def flops_per_image(config: Config, mode: str) -> float:
    """Floating-point operations of one image in the train step or the network, counted by XLA.

    They are counted for a CPU, because XLA does not count them for an accelerator.

    Raises:
      UserError: JAX may not use the CPU.
    """
    try:
        mesh = mesh_of(jax.local_devices(backend="cpu")[0])
    except RuntimeError as error:
        raise UserError(
            "operations are counted for a CPU, which JAX may not use: name it in JAX_PLATFORMS "
            "too, as in JAX_PLATFORMS=cuda,cpu"
        ) from error
    with plain_convolutions():
        lowered = lower_step("train" if mode == "train" else "forward", config, 1, mesh)
    costs = lowered.cost_analysis()
    assert isinstance(costs, dict), "XLA counts the operations of a lowered program"
    return costs["flops"]
