"""The network as pure functions over plain parameter dictionaries.

Other packages train and run a `Network` and do not use the module classes.
"""

import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Float, Float32, Shaped

from ssd_jax.config.schema import ModelConfig, PrecisionName
from ssd_jax.detection.boxes import ArrayLike
from ssd_jax.detection.default_boxes import Tiling, default_boxes, shapes_from_sizes
from ssd_jax.errors import UserError
from ssd_jax.models.layers import BatchNorm
from ssd_jax.models.preprocess import normalise
from ssd_jax.models.ssd import BACKBONES, SSD

Variables = dict[str, Any]  # nested: module names to arrays


def path_name(path: Sequence[Any]) -> str:
    """The name of an array of `Variables` by its keys: `backbone/conv1_1/conv/kernel`."""
    return jax.tree_util.keystr(tuple(path), simple=True, separator="/")


class Precision(NamedTuple):
    """The precision of a network.

    Attributes:
      dtype: the type of its feature maps.
      products: how exactly their products are computed: see `jax.default_matmul_precision`.
    """

    dtype: jax.typing.DTypeLike
    products: str


PRECISIONS: dict[PrecisionName, Precision] = {
    "float32": Precision(jnp.float32, "highest"),
    "tf32": Precision(jnp.float32, "tensorfloat32"),
    "bfloat16": Precision(jnp.bfloat16, "default"),
}


@dataclasses.dataclass(frozen=True)
class Network:
    """An SSD without its parameters.

    Attributes:
      tiling: its default boxes' layout.
      num_classes: classes without the background.
      settings: `config.model`.
    """

    tiling: Tiling
    num_classes: int
    settings: ModelConfig

    def _module(self, key: jax.Array) -> SSD:
        return SSD(
            self.settings,
            self.tiling.boxes_per_cell,
            self.num_classes,
            dtype=PRECISIONS[self.settings.precision].dtype,
            rngs=CountedKeys(key),
        )

    @functools.cached_property
    def _abstract_module(self) -> SSD:
        """The module with shapes and types instead of arrays."""
        return nnx.eval_shape(lambda: self._module(jax.random.key(0)))

    def init(self, seed: int, prior: float = 0.0) -> tuple[Variables, Variables]:
        """New parameters and batch statistics (an empty dictionary without batch norm).

        Args:
          seed: of the random numbers.
          prior: the initial probability of an object in every box; 0 = biases are 0, and all
            classes and the background are about equally probable.
        """
        return self._compiled_init(jax.random.key(seed), prior)

    def variable_shapes(self) -> tuple[Variables, Variables]:
        """The result of `init` as shapes and types without values."""
        return _variables(self._abstract_module)

    @functools.cached_property
    def _compiled_init(self) -> Callable[[jax.Array, float], tuple[Variables, Variables]]:
        """`_initialise` as one program for all seeds."""
        # It runs once, for milliseconds: on a CPU, compiler optimisations would only cost seconds.
        on_cpu = jax.default_backend() == "cpu"
        options = {"xla_backend_optimization_level": 0} if on_cpu else None
        return jax.jit(self._initialise, static_argnums=1, compiler_options=options)

    def _initialise(self, key: jax.Array, prior: float) -> tuple[Variables, Variables]:
        module = self._module(key)
        if prior:
            module.heads.set_prior(prior)
        return _variables(module)

    def default_boxes(self) -> Float32[np.ndarray, "boxes 4"]:
        """The default boxes, `cxcywh`, in the order of the outputs."""
        return default_boxes(self.tiling)

    def feature_sizes(self) -> tuple[int, ...]:
        """Cells along a side of each feature map of the module."""
        size = self.tiling.image_size
        image = jax.ShapeDtypeStruct((1, size, size, 3), jnp.float32)
        features = nnx.eval_shape(SSD.feature_maps, self._abstract_module, image)
        return tuple(feature.shape[1] for feature in features)

    def normalise(self, pixels: Shaped[ArrayLike, "*shape 3"]) -> Float32[Array, "*shape 3"]:
        """Converts RGB in [0, 255] to the input range of the backbone."""
        return normalise(pixels, BACKBONES[self.settings.backbone].input_range)

    @jax.named_scope("network")
    def apply(
        self,
        parameters: Variables,
        batch_stats: Variables,
        images: Float[ArrayLike, "batch size size 3"],
        train: bool,
        batch_axis: str | None = None,
    ) -> tuple[
        tuple[Float32[Array, "batch boxes 4"], Float32[Array, "batch boxes classes"]], Variables
    ]:
        """Runs the network.

        Args:
          parameters: as `init` makes them.
          batch_stats: as `init` makes them.
          images: from `normalise`.
          train: whether batch norm uses and updates the statistics of this batch.
          batch_axis: the name of the mapped axis (of `pmap`, `vmap` or `shard_map`) over which
            these statistics are averaged too; None where `images` is the whole batch.

        Returns:
          (offsets, logits), where class 0 is background, and the batch statistics after this
          batch.
        """
        module = nnx.merge(nnx.graphdef(self._abstract_module), parameters, batch_stats)
        module.set_attributes(nnx.BatchNorm, axis_name=batch_axis, raise_if_not_found=False)
        with jax.default_matmul_precision(PRECISIONS[self.settings.precision].products):
            outputs = module(jnp.asarray(images), train)
        return outputs, nnx.to_pure_dict(nnx.state(module, nnx.BatchStat))

    def measure_norms(
        self,
        parameters: Variables,
        batch_stats: Variables,
        images: Float[ArrayLike, "batch size size 3"],
    ) -> tuple[Variables, Variables]:
        """Returns variables whose backbone has the batch norm statistics of these images.

        For weights whose batch norm was folded into the convolutions, as for deployment: its scale
        is 1 and its mean 0, which are not those of its inputs. The outputs of the network stay the
        same, and training starts from them. Without this, the first batch, normalised by its own
        statistics, would change the output of every layer.

        Args:
          parameters: as `init` makes them.
          batch_stats: as `init` makes them.
          images: from `normalise`; of the kind that is trained on.
        """
        module = nnx.merge(nnx.graphdef(self._abstract_module), parameters, batch_stats)
        module.backbone.set_attributes(BatchNorm, measures=True, raise_if_not_found=False)
        with jax.default_matmul_precision(PRECISIONS[self.settings.precision].products):
            module.backbone(jnp.asarray(images), False)
        return _variables(module)


class CountedKeys(nnx.Rngs):
    """The keys of `nnx.Rngs(key)`, counted in Python.

    During tracing, `nnx.Rngs` causes an error of JAX for each key, whose message lists everything
    traced so far. That takes half of the time of tracing.
    """

    def __init__(self, key: jax.Array) -> None:
        self.seed_key = nnx.data(key)
        self.num_given = 0

    def params(self) -> jax.Array:
        """The next key."""
        self.num_given += 1
        return jax.random.fold_in(self.seed_key, self.num_given - 1)


def _variables(module: SSD) -> tuple[Variables, Variables]:
    """Parameters and batch statistics of a module."""
    _, parameters, batch_stats = nnx.split(module, nnx.Param, nnx.BatchStat)
    return nnx.to_pure_dict(parameters), nnx.to_pure_dict(batch_stats)


def build_network(settings: ModelConfig, num_classes: int) -> Network:
    """Makes the network and checks that its default boxes fit its feature maps.

    Args:
      settings: `config.model`.
      num_classes: classes without the background.

    Raises:
      UserError: there is no such backbone, it needs batch norm, or the feature maps do not fit.
    """
    if settings.backbone not in BACKBONES:
        raise UserError(
            f"config.model.backbone is {settings.backbone!r}, but must be one of "
            f"{', '.join(BACKBONES)}"
        )
    if BACKBONES[settings.backbone].needs_batch_norm and not settings.batch_norm:
        raise UserError(
            f"config.model.batch_norm is False, but {settings.backbone} needs it: set it to True"
        )
    num_maps = BACKBONES[settings.backbone].num_maps + len(settings.extra_blocks)
    if len(settings.feature_sizes) != num_maps:
        raise UserError(
            f"config.model.feature_sizes has {len(settings.feature_sizes)} entries, but the "
            f"feature maps of {settings.backbone} and {len(settings.extra_blocks)} extra_blocks "
            f"make {num_maps}"
        )
    network = Network(tiling_of(settings), num_classes, settings)
    sizes = network.feature_sizes()
    if sizes != settings.feature_sizes:
        raise UserError(
            f"config.model.feature_sizes is {settings.feature_sizes}, but an input of "
            f"{settings.image_size} pixels (config.model.image_size) gives feature maps of {sizes} "
            f"cells: set config.model.feature_sizes={','.join(map(str, sizes))}"
        )
    return network


def tiling_of(settings: ModelConfig) -> Tiling:
    """The default boxes of a config: of its `shapes` if given, or else as in the paper."""
    shapes = settings.shapes or shapes_from_sizes(
        settings.min_sizes, settings.max_sizes, settings.aspect_ratios, settings.whole_pixels
    )
    return Tiling(
        image_size=settings.image_size,
        feature_sizes=settings.feature_sizes,
        strides=settings.strides,
        shapes=shapes,
        clip=settings.clip,
    )
