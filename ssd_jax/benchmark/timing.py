"""The time of calls on the device, and the peak rates of the device."""

import functools
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import psutil

from ssd_jax.config.schema import PrecisionName
from ssd_jax.models.network import PRECISIONS, Precision

MINIMUM_CALLS = 3


class Timing(NamedTuple):
    """The durations of calls of a compiled function."""

    median: float  # seconds of a call, including the wait for its result
    p95: float  # seconds; 95 % of calls took no longer
    per_second: float  # calls per second, with one wait at the end


def time_calls(call: Callable[[], Any], seconds: float) -> Timing:
    """Measures repeated calls of a function.

    Args:
      call: starts work on the device and returns its outputs.
      seconds: the time to measure, half of it with a wait for each call; at least three calls.
    """
    for _ in range(2):
        jax.block_until_ready(call())
    durations = []
    while len(durations) < MINIMUM_CALLS or sum(durations) < seconds / 2:
        start = time.perf_counter()
        jax.block_until_ready(call())
        durations.append(time.perf_counter() - start)
    median = float(np.median(durations))

    count = max(MINIMUM_CALLS, round(seconds / 2 / median))
    start = time.perf_counter()
    last = None
    for _ in range(count):
        last = call()
    jax.block_until_ready(last)
    per_second = count / (time.perf_counter() - start)
    return Timing(median, float(np.percentile(durations, 95)), per_second)


def measure_peaks(precisions: Sequence[PrecisionName]) -> dict[str, float]:
    """The peak rates of one device.

    Returns:
      By precision, the operations per second of a large matrix product (the best of several sizes);
      under "copy", the bytes per second that a large copy reads and writes.
    """
    peaks = {}
    for name in precisions:
        product = functools.partial(_product_seconds, PRECISIONS[name])
        peaks[name] = max(2 * size**3 / seconds for size, seconds in _growing(512, 16384, product))
    copies = _growing(2**22, 2**30, _copy_seconds)
    peaks["copy"] = max(2 * 4 * size / seconds for size, seconds in copies)
    return peaks


def device_memory() -> int:
    """Bytes that a program may use on a device: its own memory, or the free memory of the host."""
    statistics = jax.local_devices()[0].memory_stats() or {}
    return statistics.get("bytes_limit", psutil.virtual_memory().available)


def _growing(
    size: int, largest: int, measure: Callable[[int], float]
) -> Iterator[tuple[int, float]]:
    """Sizes, doubled until one takes 0.05 s, with the seconds of each."""
    while size <= largest:
        seconds = measure(size)
        yield size, seconds
        if seconds > 0.05:
            return
        size *= 2


def _product_seconds(precision: Precision, size: int) -> float:
    with jax.default_matmul_precision(precision.products):
        factors = (_random((size, size), precision.dtype, seed) for seed in range(2))
        return _seconds(jnp.matmul, *factors)


def _copy_seconds(size: int) -> float:
    # The output differs from the input, because XLA may omit a plain copy.
    return _seconds(lambda x: x + 1, _random((size,)))


def _seconds(function: Callable, *arguments: jax.Array) -> float:
    compiled = jax.jit(function)
    return time_calls(lambda: compiled(*arguments), seconds=0.2).median


def _random(shape: tuple[int, ...], dtype: Any = jnp.float32, seed: int = 0) -> jax.Array:
    # Not zeros, with which some devices compute faster.
    return jax.random.uniform(jax.random.key(seed), shape, minval=-1.0).astype(dtype)
