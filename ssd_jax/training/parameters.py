"""Groups of parameters, chosen by patterns of their paths.

A path is the names of the modules and of the array, with slashes between them, like
`backbone/conv1_1/conv/kernel`; in a pattern `*` stands for anything, slashes included.
"""

import fnmatch

import jax

from ssd_jax.config.schema import split_names
from ssd_jax.errors import UserError
from ssd_jax.models.network import Variables, path_name

Mask = Variables  # the structure of the parameters, with booleans


def matching(parameters: Variables, patterns: str) -> Mask:
    """Marks the parameters that match one of some patterns.

    Args:
      parameters: a tree with the structure of the parameters.
      patterns: joined by commas; empty = none.
    """
    wanted = split_names(patterns)
    return jax.tree_util.tree_map_with_path(
        lambda path, _: any(fnmatch.fnmatchcase(path_name(path), pattern) for pattern in wanted),
        parameters,
    )


def check_frozen(parameters: Variables, patterns: str) -> None:
    """Raises a `UserError` if a pattern of `config.freeze` matches nothing, or if all is frozen.

    Args:
      parameters: a tree with the structure of the parameters.
      patterns: see `matching`.
    """
    paths = [path_name(path) for path, _ in jax.tree_util.tree_leaves_with_path(parameters)]
    for pattern in split_names(patterns):
        if not fnmatch.filter(paths, pattern):
            raise UserError(
                f"config.freeze has the pattern {pattern!r}, which matches no parameter; they have "
                f"paths like {paths[0]} and {paths[-1]}"
            )
    if all(jax.tree.leaves(matching(parameters, patterns))):
        raise UserError(
            f"config.freeze is {patterns!r}, which freezes every parameter, so nothing would be "
            f"learned: leave out some, like {paths[-1]}"
        )


def split(parameters: Variables, mask: Mask | None) -> tuple[Variables, Variables]:
    """Splits parameters by a mask into those outside and those inside; the others become None."""
    if mask is None:
        return parameters, jax.tree.map(lambda _: None, parameters)
    outside = jax.tree.map(lambda value, inside: None if inside else value, parameters, mask)
    inside = jax.tree.map(lambda value, inside: value if inside else None, parameters, mask)
    return outside, inside


def merge(outside: Variables, inside: Variables) -> Variables:
    """Joins the two results of `split`."""
    return jax.tree.map(
        lambda a, b: b if a is None else a, outside, inside, is_leaf=lambda leaf: leaf is None
    )
