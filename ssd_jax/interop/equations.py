"""The equations of a traced function for other formats: with calls inlined."""

from collections.abc import Callable, Collection, Iterator, Sequence
from typing import Any

import numpy as np
from jax.core import ShapedArray
from jax.extend.core import Jaxpr, JaxprEqn, Literal

INLINED = {"jit": "jaxpr", "custom_jvp_call": "call_jaxpr", "custom_vjp_call": "call_jaxpr"}
NUMPY: dict[str, Callable[..., Any]] = {
    "add": np.add,
    "sub": np.subtract,
    "mul": np.multiply,
    "div": np.divide,
    "max": np.maximum,
    "min": np.minimum,
    "sqrt": np.sqrt,
    "rsqrt": lambda x: 1 / np.sqrt(x),
}


class Variable:
    """An output of an equation."""


def equations(
    program: Jaxpr, names: dict[Any, Any], whole: Collection[str] = ()
) -> Iterator[tuple[JaxprEqn, list[Any], list[Any]]]:
    """Yields the equations of a program and its called programs, with their inputs and outputs.

    Args:
      program: the program; its variables may have the same names as those of a called program.
      names: the unique values of its variables; this function adds outputs.
      whole: functions of JAX whose calls are not inlined; see `operation`.
    """
    for equation in program.eqns:
        inputs = [named(variable, names) for variable in equation.invars]
        outputs: list[Any] = [Variable() for _ in equation.outvars]
        if operation(equation) in whole:
            yield equation, inputs, outputs
        elif equation.primitive.name in INLINED:
            called = equation.params[INLINED[equation.primitive.name]]
            inner = dict(zip(called.jaxpr.invars, inputs, strict=True))
            constants = map(np.asarray, called.consts)
            inner |= dict(zip(called.jaxpr.constvars, constants, strict=True))
            yield from equations(called.jaxpr, inner, whole)
            outputs = [named(variable, inner) for variable in called.jaxpr.outvars]
        elif _changes_nothing(equation):
            outputs = inputs[:1]
        else:
            yield equation, inputs, outputs
        names.update(zip(equation.outvars, outputs, strict=True))


def operation(equation: JaxprEqn) -> str:
    """The name of an equation's operation: its primitive, or its called function."""
    name = equation.primitive.name
    return equation.params["name"] if name == "jit" else name


def named(variable: Any, names: dict[Any, Any]) -> Any:
    """The value of a variable; the array of a literal."""
    if isinstance(variable, Literal):
        return np.asarray(variable.val, shaped(variable).dtype)
    return names[variable]


def shaped(variable: Any) -> ShapedArray:
    """The shape and type of a variable."""
    assert isinstance(variable.aval, ShapedArray)
    return variable.aval


def _changes_nothing(equation: JaxprEqn) -> bool:
    before, after = shaped(equation.invars[0]), shaped(equation.outvars[0])
    if before.shape != after.shape or before.dtype != after.dtype:
        return False
    if equation.primitive.name == "pad":
        return all(set(axis) == {0} for axis in equation.params["padding_config"])
    return equation.primitive.name in ("convert_element_type", "reshape", "broadcast_in_dim")


def computed(
    equation: JaxprEqn, given: Sequence[np.ndarray], shape: tuple[int, ...]
) -> list[np.ndarray]:
    """Evaluates an equation of constants with NumPy; JAX would compile a program for each."""
    name, params = equation.primitive.name, equation.params
    if name in NUMPY:
        return [NUMPY[name](*given)]
    if name == "convert_element_type":
        return [given[0].astype(params["new_dtype"])]
    if name == "reshape":
        return [given[0].reshape(shape)]
    if name == "concatenate":
        return [np.concatenate(given, params["dimension"])]
    if name == "broadcast_in_dim":
        places = params["broadcast_dimensions"]
        kept = [n if axis in places else 1 for axis, n in enumerate(shape)]
        own = dict(zip(places, given[0].shape, strict=True))
        return [np.broadcast_to(given[0].reshape([own.get(i, 1) for i in range(len(kept))]), shape)]
    results = equation.primitive.bind(*given, **params)
    return [np.asarray(each) for each in (results if isinstance(results, list) else [results])]
