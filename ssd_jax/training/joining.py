"""Joins many small arrays of parameters into few long ones during the update.

XLA compiles the update once for each array. For a small network with a hundred arrays, that takes
as long as compiling the rest of the step.
"""

import math
from collections.abc import Callable, Hashable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ssd_jax.config.schema import OptimizerConfig
from ssd_jax.models.network import Variables, path_name
from ssd_jax.training.optimizer import treatment
from ssd_jax.training.parameters import Mask, merge, split
from ssd_jax.training.state import TrainState

MAX_JOINED = 2**16  # numbers per array: copying longer arrays would make steps slower

Joined = dict[str, jax.Array]


class Joining:
    """Joins variables of one structure, and separates them again.

    The small arrays of each kind become one long vector; large arrays do not change. The keys are
    the paths of the arrays; the key of a vector is the path of its first array.
    """

    def __init__(self, like: Variables, kinds: Variables | None = None) -> None:
        """Chooses the arrays to join.

        Args:
          like: variables with the same structure and shapes; None for arrays that are left out.
          kinds: the kind of each array, in the same structure: arrays of different kinds are not
            joined; None = all are of one kind.
        """
        arrays, self._structure = jax.tree.flatten_with_path(like)
        of_arrays = [None] * len(arrays) if kinds is None else self._structure.flatten_up_to(kinds)
        self._shapes = {path_name(path): array.shape for path, array in arrays}
        groups: dict[Hashable, list[str]] = {}
        for (name, shape), kind in zip(self._shapes.items(), of_arrays, strict=True):
            groups.setdefault(kind if _is_joined(shape) else name, []).append(name)
        self._groups = list(groups.values())
        self._joined_structure = jax.tree.structure({names[0]: 0 for names in self._groups})

    def join(self, variables: Variables) -> Joined:
        """Joins variables."""
        arrays = dict(zip(self._shapes, jax.tree.leaves(variables), strict=True))
        return {names[0]: _joined([arrays[name] for name in names]) for names in self._groups}

    def separate(self, joined: Joined) -> Variables:
        """The inverse of `join`."""
        arrays: Joined = {}
        for names in self._groups:
            shapes = [self._shapes[name] for name in names]
            arrays |= zip(names, _separated(joined[names[0]], shapes), strict=True)
        return jax.tree.unflatten(self._structure, [arrays[name] for name in self._shapes])

    def join_all(self, tree: Any) -> Any:
        """Joins every subtree with this structure, for example in the state of an optimiser."""
        return _map_parts(self.join, tree, self._structure)

    def separate_all(self, tree: Any) -> Any:
        """The inverse of `join_all`."""
        return _map_parts(self.separate, tree, self._joined_structure)


class StateJoining:
    """Joins and separates states before and after one update.

    Attributes:
      parameters: joins and separates those that are trained.
      batch_stats: joins and separates batch statistics.
    """

    def __init__(self, state: TrainState, frozen: Mask | None, settings: OptimizerConfig) -> None:
        """Chooses the arrays to join.

        Args:
          state: a state with the same structure and shapes.
          frozen: the parameters that are not trained; None for none.
          settings: of the optimiser; they decide which parameters can be joined.
        """
        self._frozen = frozen
        trainable, _ = split(state.parameters, frozen)
        self.parameters = Joining(trainable, treatment(settings, trainable))
        self.batch_stats = Joining(state.batch_stats)

    def join(self, state: TrainState) -> TrainState:
        """A state whose parameters and averages are split into `trained`, joined, and `frozen`."""
        return TrainState(
            step=state.step,
            parameters=self._join(state.parameters),
            averaged=self._join(state.averaged) if state.averaged else {},
            batch_stats=self.batch_stats.join(state.batch_stats),
            opt_state=self.parameters.join_all(state.opt_state),
        )

    def separate(self, state: TrainState) -> TrainState:
        """The inverse of `join`."""
        return TrainState(
            step=state.step,
            parameters=self._separate(state.parameters),
            averaged=self._separate(state.averaged) if state.averaged else {},
            batch_stats=self.batch_stats.separate(state.batch_stats),
            opt_state=self.parameters.separate_all(state.opt_state),
        )

    def _join(self, parameters: Variables) -> Variables:
        trainable, frozen = split(parameters, self._frozen)
        return {"trained": self.parameters.join(trainable), "frozen": frozen}

    def _separate(self, joined: Variables) -> Variables:
        return merge(self.parameters.separate(joined["trained"]), joined["frozen"])


def _is_joined(shape: tuple[int, ...]) -> bool:
    # Other devices run small operations in parallel.
    return jax.default_backend() == "cpu" and math.prod(shape) <= MAX_JOINED


def _joined(arrays: list[jax.Array]) -> jax.Array:
    if len(arrays) == 1:
        return arrays[0]
    return jnp.concatenate([jnp.ravel(array) for array in arrays])


def _separated(joined: jax.Array, shapes: list[tuple[int, ...]]) -> list[jax.Array]:
    if len(shapes) == 1:
        return [joined]
    ends = np.cumsum([math.prod(shape) for shape in shapes])
    parts = jnp.split(joined, ends[:-1])
    return [part.reshape(shape) for part, shape in zip(parts, shapes, strict=True)]


def _map_parts(function: Callable[[Any], Any], tree: Any, structure: Any) -> Any:
    def is_part(part: Any) -> bool:
        return jax.tree.structure(part) == structure

    return jax.tree.map(
        lambda part: function(part) if is_part(part) else part, tree, is_leaf=is_part
    )
