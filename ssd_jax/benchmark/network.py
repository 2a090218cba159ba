"""Training and detection on the device alone: images per second, by precision and batch size.

Images and objects are random and in device memory. Weights are random too, so that suppression
compares the maximum number of boxes.
"""

import functools
import itertools
import logging
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from ml_collections import ConfigDict

from ssd_jax.benchmark.lowering import NUM_CLASSES, flops_per_image
from ssd_jax.benchmark.timing import device_memory, measure_peaks, time_calls
from ssd_jax.benchmark.tracing import format_times, trace
from ssd_jax.benchmark.voc_like import VOC_OBJECTS
from ssd_jax.config.schema import Config, PrecisionName, as_config
from ssd_jax.distributed import devices
from ssd_jax.errors import UserError
from ssd_jax.models.network import PRECISIONS, Network, Variables, build_network
from ssd_jax.models.prediction import compiler_options, make_predict_step
from ssd_jax.storage.files import local_path
from ssd_jax.training.optimizer import make_optimizer, make_schedule
from ssd_jax.training.state import initial_state
from ssd_jax.training.steps import make_train_step, step_numbers

logger = logging.getLogger(__name__)

# The train step; images to detections; the network without decoding and suppression.
MODES = ("train", "predict", "forward")
FIRST_BATCH_SIZES = {"train": 8, "predict": 1, "forward": 1}  # of a device
NUM_BATCHES = 4  # used in turn
MEMORY_SHARE = 0.92  # of the device's memory that a program may take
TRACED_CALLS = 5

Row = dict[str, Any]


def benchmark_network(
    config: Config | ConfigDict,
    modes: Sequence[str] = MODES,
    precisions: Sequence[str] = (),
    batch_sizes: Sequence[int] = (),
    seconds: float = 4.0,
    profile: str = "",
) -> dict[str, Any]:
    """Measures the train step and detection.

    Args:
      config: the network and its training.
      modes: some of `MODES`.
      precisions: some of `PRECISIONS`; default: all that differ on the device.
      batch_sizes: images over all devices; by default doubled until they do not fit.
      seconds: the time of each row.
      profile: a folder for a trace of each row by JAX's profiler; "" for none.

    Returns:
      `peaks`: see `measure_peaks`; `flops_per_image`, by mode, counted by XLA; and `rows`, with
      `mode`, `precision`, `batch_size`, `images_per_second`, `step_ms_median`, `step_ms_p95`,
      `compile_seconds`, `peak_memory_bytes` (of one device, as planned by XLA) and
      `fraction_of_peak` (operations per second over those of a large matrix product).

    Raises:
      UserError: the config or a value is wrong, or one image does not fit into memory.
    """
    config = as_config(config)
    chosen = chosen_precisions(precisions)
    num_devices = devices.num_devices()
    for size in batch_sizes:
        if size < 1 or size % num_devices:
            raise UserError(
                f"--batch_sizes has {size}, but must be multiples of {num_devices}, the number "
                "of devices"
            )
    if seconds <= 0:
        raise UserError(f"--seconds is {seconds}, but must be more than 0")
    peaks = measure_peaks(chosen)
    flops = {mode: flops_per_image(config, mode) for mode in modes}
    rows = []
    for mode, precision in itertools.product(modes, chosen):
        for size in batch_sizes or _doubled(FIRST_BATCH_SIZES[mode]):
            measured = measure(with_precision(config, precision), mode, size, seconds, profile)
            if measured is None:
                logger.info("%s, %s: %d images do not fit into memory", mode, precision, size)
                break
            rate = measured["images_per_second"]
            peak = peaks[precision] * num_devices
            rows.append({"mode": mode, "precision": precision, "batch_size": size} | measured)
            rows[-1]["fraction_of_peak"] = rate * flops[mode] / peak
            logger.info("%s, %s, %d images: %.1f images/s", mode, precision, size, rate)
    if not rows:
        raise UserError("no batch fits into the memory of the device: try smaller --batch_sizes")
    return {"peaks": peaks, "flops_per_image": flops, "rows": rows}


def chosen_precisions(names: Sequence[str]) -> tuple[PrecisionName, ...]:
    """Precisions by name; without names, those that differ on this kind of device.

    Raises:
      UserError: a name is not one of `PRECISIONS`.
    """
    known: dict[str, PrecisionName] = {name: name for name in PRECISIONS}
    for name in names:
        if name not in known:
            raise UserError(f"--precisions has {name!r}, but must be of {', '.join(known)}")
    every = tuple(PRECISIONS) if jax.default_backend() == "gpu" else ("float32", "bfloat16")
    return tuple(known[name] for name in names) or every


def random_batch(config: Config, batch_size: int, seed: int = 0) -> dict[str, np.ndarray]:
    """The arrays of a training batch on the device, with the mean number of objects of VOC."""
    random = np.random.default_rng(seed)
    size, max_objects = config.model.image_size, config.data.max_objects
    counts = 1 + random.poisson(VOC_OBJECTS - 1, batch_size)
    real = np.arange(max_objects) < counts[:, None]
    corner = random.uniform(0, 0.7, (batch_size, max_objects, 2))
    boxes = np.concatenate([corner, corner + random.uniform(0.05, 0.3, corner.shape)], axis=-1)
    labels = random.integers(1, NUM_CLASSES + 1, (batch_size, max_objects))
    return {
        "image": random.integers(0, 256, (batch_size, size, size, 3), dtype=np.uint8),
        "window": np.tile(np.array([0, 0, 1, 1], np.float32), (batch_size, 1)),
        "boxes": np.where(real[..., None], boxes, 0).astype(np.float32),
        "labels": np.where(real, labels, 0).astype(np.int32),
    }


class _Case(NamedTuple):
    """A function to measure.

    Attributes:
      lowered: the function to compile.
      calls: turns the compiled function into a function without arguments that calls it once.
    """

    lowered: jax.stages.Lowered
    calls: Callable[[Callable[..., Any]], Callable[[], Any]]


@functools.lru_cache(maxsize=1)
def _weights(network: Network, seed: int) -> tuple[Variables, Variables]:
    """Random weights of a network in host memory, the same for all rows."""
    return devices.to_host(network.init(seed))


def _prepare(config: Config, mode: str, batch_size: int) -> _Case:
    network = build_network(config.model, NUM_CLASSES)
    exact = build_network(with_precision(config, "float32").model, NUM_CLASSES)
    variables = _weights(exact, config.seed)
    batches = [random_batch(config, batch_size, seed) for seed in range(NUM_BATCHES)]
    if mode == "train":
        return _prepare_training(config, network, variables, batches)

    def forward(variables: tuple[Variables, Variables], images: jax.Array) -> Any:
        return network.apply(*variables, network.normalise(images), train=False)[0]

    function = make_predict_step(network, config.detection) if mode == "predict" else forward
    variables = devices.replicate(variables)
    images = [devices.place(batch["image"]) for batch in batches]

    def calls(compiled: Callable[..., Any]) -> Callable[[], Any]:
        turns = itertools.cycle(images)
        return lambda: compiled(variables, next(turns))

    return _Case(devices.pmap_predict(function).lower(variables, images[0]), calls)


def _prepare_training(
    config: Config,
    network: Network,
    variables: tuple[Variables, Variables],
    batches: Sequence[dict[str, np.ndarray]],
) -> _Case:
    optimizer = make_optimizer(config, make_schedule(config))
    step = devices.pmap_train_step(make_train_step(config, network))
    averages = config.ema > 0
    state = devices.replicate(initial_state(*variables, optimizer, averages=averages))
    placed = [devices.place(batch) for batch in batches]
    numbers = step_numbers(config)(0)

    def calls(compiled: Callable[..., Any]) -> Callable[[], Any]:
        turns, last_state = itertools.cycle(placed), state

        def call() -> Any:
            nonlocal last_state
            last_state, metrics = compiled(last_state, next(turns), numbers)
            return metrics

        return call

    return _Case(step.lower(state, placed[0], numbers), calls)


def measure(
    config: Config, mode: str, batch_size: int, seconds: float, profile: str = ""
) -> dict[str, Any] | None:
    """The numbers of a row of `benchmark_network`; None if the batch does not fit into memory.

    Args:
      config: a config, with the precision to be measured.
      mode: one of `MODES`.
      batch_size: images of all devices together.
      seconds: how long to measure.
      profile: see `benchmark_network`.
    """
    try:
        case = _prepare(config, mode, batch_size)
        start = time.perf_counter()
        compiled = case.lowered.compile({} if mode == "train" else compiler_options())
        compile_seconds = time.perf_counter() - start
        memory = _planned_memory(compiled)
        if memory > MEMORY_SHARE * device_memory():
            return None
        call = case.calls(compiled)
        timing = time_calls(call, seconds)
        if profile:
            folder = local_path(profile) / f"{mode}_{config.model.precision}_{batch_size}"
            times = trace(call, TRACED_CALLS, folder, compiled.as_text() or "")
            logger.info("%s\n%s", folder, format_times(times))
    except jax.errors.JaxRuntimeError as error:
        if "RESOURCE_EXHAUSTED" not in str(error):
            raise
        return None
    return {
        "images_per_second": timing.per_second * batch_size,
        "step_ms_median": timing.median * 1e3,
        "step_ms_p95": timing.p95 * 1e3,
        "compile_seconds": compile_seconds,
        "peak_memory_bytes": memory,
    }


def _planned_memory(compiled: Any) -> int:
    """Bytes of a program on a device: inputs, outputs and temporary arrays."""
    plan = compiled.memory_analysis()
    in_and_out = plan.argument_size_in_bytes + plan.output_size_in_bytes - plan.alias_size_in_bytes
    return in_and_out + plan.temp_size_in_bytes


def _doubled(first: int) -> Iterator[int]:
    return (first * devices.num_devices() * 2**i for i in itertools.count())


def with_precision(config: Config, precision: str) -> Config:
    """A copy of a config with another `model.precision`."""
    return config.replace({"model.precision": precision})
