"""The network as pure functions over plain parameter dictionaries.

The rest of the project trains and runs a `Network` and does not know the module classes.
"""

import dataclasses
import functools
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from ssd_jax.detection.default_boxes import Shapes, Tiling, default_boxes, shapes_from_sizes
from ssd_jax.errors import UserError
from ssd_jax.models.heads import ExtraBlock
from ssd_jax.models.preprocess import normalise
from ssd_jax.models.ssd import BACKBONES, SSD

Variables = dict[str, Any]  # nested: module names to arrays


def path_name(path: Sequence[jax.tree_util.DictKey]) -> str:
    """The name of an array of `Variables` by its keys: `backbone/conv1_1/conv/kernel`."""
    return "/".join(str(key.key) for key in path)


class Precision(NamedTuple):
    """How a network computes.

    Attributes:
      dtype: the type of its feature maps.
      products: how exactly their products are computed: see `jax.default_matmul_precision`.
    """

    dtype: jnp.dtype
    products: str


PRECISIONS = {
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
    """

    tiling: Tiling
    num_classes: int
    backbone: str
    extra_blocks: tuple[ExtraBlock, ...]
    width: float
    batch_norm: bool
    separable: bool
    linear_extras: bool
    precision: str

    def _module(self, seed: int = 0) -> SSD:
        return SSD(
            backbone=self.backbone,
            extra_blocks=self.extra_blocks,
            boxes_per_cell=self.tiling.boxes_per_cell,
            num_classes=self.num_classes,
            width=self.width,
            batch_norm=self.batch_norm,
            separable=self.separable,
            linear_extras=self.linear_extras,
            dtype=PRECISIONS[self.precision].dtype,
            rngs=nnx.Rngs(seed),
        )

    @functools.cached_property
    def _abstract_module(self) -> SSD:
        """The module with shapes and types in place of arrays."""
        return nnx.eval_shape(self._module)

    def init(self, seed: int) -> tuple[Variables, Variables]:
        """New parameters and batch statistics (an empty dictionary without batch norm)."""
        # It runs once, for milliseconds: on a CPU optimising it would take seconds for nothing.
        on_cpu = jax.default_backend() == "cpu"
        options = {"xla_backend_optimization_level": 0} if on_cpu else None
        return jax.jit(self._initialise, static_argnums=0, compiler_options=options)(seed)

    def variable_shapes(self) -> tuple[Variables, Variables]:
        """What `init` makes, as shapes and types without values."""
        return _variables(self._abstract_module)

    def _initialise(self, seed: int) -> tuple[Variables, Variables]:
        return _variables(self._module(seed))

    def default_boxes(self) -> np.ndarray:
        """`[boxes, 4] cxcywh`, in the order of the outputs."""
        return default_boxes(self.tiling)

    def normalise(self, pixels: jax.Array) -> jax.Array:
        """`[..., 3]` RGB in [0, 255] to what the backbone reads."""
        return normalise(pixels, BACKBONES[self.backbone].input_range)

    @jax.named_scope("network")
    def apply(
        self, parameters: Variables, batch_stats: Variables, images: jax.Array, train: bool
    ) -> tuple[tuple[jax.Array, jax.Array], Variables]:
        """Runs the network.

        Args:
          parameters: as `init` makes them.
          batch_stats: as `init` makes them.
          images: `[batch, size, size, 3]` float32, from `normalise`.
          train: whether batch norm uses and updates the statistics of this batch.

        Returns:
          (offsets `[batch, boxes, 4]`, logits `[batch, boxes, classes + 1]`), and the batch
          statistics after this batch.
        """
        module = nnx.merge(nnx.graphdef(self._abstract_module), parameters, batch_stats)
        with jax.default_matmul_precision(PRECISIONS[self.precision].products):
            outputs = module(images, train)
        return outputs, nnx.to_pure_dict(nnx.state(module, nnx.BatchStat))


def _variables(module: SSD) -> tuple[Variables, Variables]:
    """Parameters and batch statistics of a module."""
    _, parameters, batch_stats = nnx.split(module, nnx.Param, nnx.BatchStat)
    return nnx.to_pure_dict(parameters), nnx.to_pure_dict(batch_stats)


def build_network(config: Any, num_classes: int) -> Network:
    """Makes the network of a config and checks that its default boxes fit its feature maps.

    Args:
      config: `config.model` of a config file.
      num_classes: classes without the background.

    Raises:
      UserError: a field has an impossible value, or the tiling does not fit.
    """
    if config.precision not in PRECISIONS:
        raise UserError(
            f"config.model.precision is {config.precision!r}, but must be one of "
            f"{', '.join(PRECISIONS)}"
        )
    if config.backbone not in BACKBONES:
        raise UserError(
            f"config.model.backbone is {config.backbone!r}, but must be one of "
            f"{', '.join(BACKBONES)}"
        )
    try:
        tiling = Tiling(
            image_size=config.image_size,
            feature_sizes=tuple(config.feature_sizes),
            strides=tuple(config.strides),
            shapes=_shapes(config),
            clip=config.clip,
        )
    except ValueError as error:
        raise UserError(f"config.model: {error}") from error
    if BACKBONES[config.backbone].needs_batch_norm and not config.batch_norm:
        raise UserError(
            f"config.model.batch_norm is False, but {config.backbone} needs it: set it to True"
        )
    num_maps = BACKBONES[config.backbone].num_maps + len(config.extra_blocks)
    if len(tiling.feature_sizes) != num_maps:
        raise UserError(
            f"config.model.feature_sizes has {len(tiling.feature_sizes)} entries, but the feature "
            f"maps of {config.backbone} and {len(config.extra_blocks)} extra_blocks make {num_maps}"
        )
    network = Network(
        tiling=tiling,
        num_classes=num_classes,
        backbone=config.backbone,
        extra_blocks=tuple(ExtraBlock(*block) for block in config.extra_blocks),
        width=config.width,
        batch_norm=config.batch_norm,
        separable=config.separable,
        linear_extras=config.linear_extras,
        precision=config.precision,
    )

    image = jax.ShapeDtypeStruct((1, tiling.image_size, tiling.image_size, 3), jnp.float32)
    features = nnx.eval_shape(SSD.feature_maps, network._abstract_module, image)
    sizes = tuple(feature.shape[1] for feature in features)
    if sizes != tiling.feature_sizes:
        raise UserError(
            f"config.model.feature_sizes is {tiling.feature_sizes}, but an input of "
            f"{tiling.image_size} pixels gives feature maps of {sizes} cells"
        )
    return network


def _shapes(config: Any) -> tuple[Shapes, ...]:
    """The default boxes of a cell of each feature map: those given, or those of the paper."""
    if config.shapes:
        return tuple(tuple(tuple(shape) for shape in shapes) for shapes in config.shapes)
    return shapes_from_sizes(
        config.min_sizes, config.max_sizes, config.aspect_ratios, config.whole_pixels
    )
