"""Exchange of values between the processes of a run: JSON and arrays, through JAX's coordinator.

Received data cannot run code: text is parsed as JSON, and safetensors reads arrays.
"""

import itertools
import json
import math
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

import jax
import numpy as np
import safetensors
import safetensors.numpy
from jax._src import distributed  # orbax uses it, too: there is no public API
from jax.experimental import multihost_utils

from ssd_jax.distributed import watch
from ssd_jax.errors import LostProcessError, UserError

Tree = TypeVar("Tree")
JsonT = TypeVar("JsonT")  # values that JSON does not change: lists, not tuples, and strings as keys

_numbers = itertools.count()


def from_main_process(value: JsonT) -> JsonT:
    """The main process's value, on every process.

    Args:
      value: the value; only that of the main process is used.

    Raises:
      UserError: the received data is not JSON.
      LostProcessError: a process did not make this call in time.
    """
    if distributed.global_state.num_processes == 1:
        return value
    text = json.dumps(value) if distributed.global_state.process_id == 0 else ""
    (data,) = _exchange(text.encode(), [0])
    return parsed_json(data, 0)


def arrays_from_main_process(read: Callable[[], Tree], shapes: Tree) -> Tree:
    """The arrays that the main process reads, as NumPy arrays on every process.

    The devices send them, bit-identical, after all processes have made this call.

    Args:
      read: reads the arrays; called only on the main process.
      shapes: a tree of the same structure, whose leaves have `shape` and `dtype`.

    Raises:
      LostProcessError: a process did not make this call in time.
    """
    is_main = distributed.global_state.process_id == 0
    tree = read() if is_main else shapes
    if distributed.global_state.num_processes == 1:
        return tree
    from_main_process(True)  # devices would wait for seconds only
    leaves, structure = jax.tree.flatten(shapes)
    sizes = [math.prod(leaf.shape) * np.dtype(leaf.dtype).itemsize for leaf in leaves]
    packed = np.zeros(-(-sum(sizes) // 4) * 4, np.uint8)
    if is_main:
        arrays = [np.ascontiguousarray(leaf).reshape(-1) for leaf in jax.tree.leaves(tree)]
        packed[: sum(sizes)] = np.concatenate([array.view(np.uint8) for array in arrays])
    with watch.waiting("arrays that the main process has read"):
        packed = multihost_utils.broadcast_one_to_all(packed.view(np.uint32)).view(np.uint8)
    parts = np.split(packed[: sum(sizes)], np.cumsum(sizes)[:-1])
    return structure.unflatten(
        part.view(leaf.dtype).reshape(leaf.shape) for part, leaf in zip(parts, leaves, strict=True)
    )


def gather_from_processes(value: JsonT) -> list[JsonT]:
    """Every process's value, in the order of processes, on every process.

    Raises:
      UserError: the received data is not JSON.
      LostProcessError: a process did not make this call in time.
    """
    if distributed.global_state.num_processes == 1:
        return [value]
    everything = _exchange(
        json.dumps(value).encode(), range(distributed.global_state.num_processes)
    )
    return [parsed_json(data, index) for index, data in enumerate(everything)]


def gather_arrays(arrays: Mapping[str, np.ndarray]) -> list[dict[str, np.ndarray]]:
    """Every process's arrays by name, in the order of processes, on every process.

    Raises:
      UserError: the received data is not in the format of safetensors.
      LostProcessError: a process did not make this call in time.
    """
    if distributed.global_state.num_processes == 1:
        return [dict(arrays)]
    packed = safetensors.numpy.save(
        {name: np.ascontiguousarray(array) for name, array in arrays.items()}
    )
    everything = _exchange(packed, range(distributed.global_state.num_processes))
    return [parsed_arrays(data, index) for index, data in enumerate(everything)]


def parsed_json(data: bytes, process: int) -> Any:
    """The value that a process sent.

    Raises:
      UserError: it is not JSON.
    """
    try:
        return json.loads(data)
    except (ValueError, RecursionError) as error:
        raise _malformed(process, "JSON", error) from error


def parsed_arrays(data: bytes, process: int) -> dict[str, np.ndarray]:
    """The arrays that a process sent.

    Raises:
      UserError: they are not in the format of safetensors.
    """
    try:
        return safetensors.numpy.load(data)
    except (safetensors.SafetensorError, ValueError, KeyError) as error:
        raise _malformed(process, "in the format of safetensors", error) from error


def _malformed(process: int, expected: str, error: Exception) -> UserError:
    return UserError(
        f"process {process} of the run sent data that is not {expected} ({str(error)[:200]}): "
        "start all processes with the same version of the code, in a network that nobody else can "
        "reach"
    )


def _exchange(data: bytes, wanted: Sequence[int]) -> list[bytes]:
    """The data of these processes; all processes must call this, in the same order."""
    client = distributed.global_state.client
    assert client is not None
    number, own = next(_numbers), distributed.global_state.process_id
    deadline = time.monotonic() + watch.longest_wait()

    def key(process: int) -> str:
        return f"ssd_jax/exchange/{number}/{process}"

    def milliseconds_left() -> int:
        return max(1, int(1000 * (deadline - time.monotonic())))

    client.key_value_set_bytes(key(own), data)
    values = []
    for process in wanted:
        if process == own:
            values.append(data)
            continue
        try:
            values.append(client.blocking_key_value_get_bytes(key(process), milliseconds_left()))
        except jax.errors.JaxRuntimeError as error:
            raise _lost(f"process {process}", error) from error
    try:
        # Nothing is removed until all processes have read.
        client.wait_at_barrier(f"ssd_jax/exchange/{number}", milliseconds_left())
    except jax.errors.JaxRuntimeError as error:
        raise _lost("a process", error) from error
    client.key_value_delete(key(own))
    return values


def _lost(who: str, error: RuntimeError) -> Exception:
    """A `LostProcessError` for a timeout; other errors are returned unchanged."""
    if "DEADLINE_EXCEEDED" not in str(error):
        return error
    return LostProcessError(
        f"{who} did not come within {watch.longest_wait():g} s to where the others wait"
    )
