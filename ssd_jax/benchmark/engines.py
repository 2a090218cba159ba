"""Benchmark of inference engines on the same batches, in turns: wall time and CPU time.

Measured from the pixels of a batch to its detections on the host, including suppression.
"""

import importlib.metadata
import itertools
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ssd_jax.benchmark.lowering import NUM_CLASSES
from ssd_jax.config.schema import Config
from ssd_jax.data.class_lists import VOC
from ssd_jax.data.evaluation_batches import evaluation_batches
from ssd_jax.data.sources import open_dataset
from ssd_jax.errors import UserError, check_installed
from ssd_jax.inference.engine import Engine
from ssd_jax.inference.exported import Exported, read_exported
from ssd_jax.inference.exported_engines import ENGINES_OF, KIND_OF, PACKAGES, load_exported
from ssd_jax.inference.jax_engine import JaxEngine
from ssd_jax.inference.loading import ENGINES, exported_kind, exported_now
from ssd_jax.interop.hub import load_pretrained
from ssd_jax.interop.trained import Trained
from ssd_jax.models.network import build_network

BATCH_SIZES = (1, 8)
NUM_BATCHES = 4  # used in turn
MINIMUM_TURNS = 5
# Boxes of all classes that pass the threshold in an image; trained weights have about this number.
CANDIDATES = 200
# A margin above the differences of scores between engines. Random weights may give many equal
# scores.
ABOVE = 1e-5


def check_engines(names: Sequence[str], weights: str = "") -> None:
    """Checks names of engines before anything is measured.

    Args:
      names: of engines.
      weights: see `benchmark_engines`.

    Raises:
      UserError: there is no such engine, it is not installed, or it cannot run the weights.
    """
    runs = ENGINES_OF.get(exported_kind(weights) if weights else "", ENGINES)
    for name in names:
        if name not in ENGINES:
            raise UserError(f"--engines has {name!r}, but must be of {', '.join(ENGINES)}")
        if name not in runs:
            raise UserError(
                f"--engines has {name}, but {weights} runs only in {' and '.join(runs)}: name a "
                "folder of safetensors, which all engines run"
            )
        if name in PACKAGES:
            check_installed(PACKAGES[name])


def benchmark_engines(
    detector: Config | str,
    names: Sequence[str],
    batch_sizes: Sequence[int] = (),
    seconds: float = 4.0,
    source: str = "",
) -> list[dict[str, Any]]:
    """Measures detection by several engines, which take turns.

    Args:
      detector: the weights that `ssd-jax export` wrote, or a config: its network then has random
        weights, 20 classes, and a threshold that a typical number of boxes pass.
      names: of `ENGINES`; the others are compared with the first.
      batch_sizes: images per batch.
      seconds: the time of each engine and batch size; at least 5 turns are measured.
      source: a data set whose first batches are used; empty = random images, in which a trained
        detector finds few boxes to suppress.

    Returns:
      For each batch size and engine: `engine`, `version` of its package, `batch_size`,
      `start_seconds` until the first batch is finished, `ms_median` and `ms_p95` of a batch,
      `cpu_ms_median` of all threads, `images_per_second`, and `speed`: the median over turns of the
      first engine's time divided by its own.

    Raises:
      UserError: see `check_engines`; or the weights or a size are wrong.
    """
    weights = detector if isinstance(detector, str) else ""
    check_engines(names, weights)
    for size in batch_sizes:
        if size < 1:
            raise UserError(f"--batch_sizes has {size}, but must be 1 or more")
    makers = _makers(detector, names)
    rows = []
    for batch_size in batch_sizes or BATCH_SIZES:
        rows += _measure(makers, batch_size, seconds, source)
    return rows


def _makers(detector: Config | str, names: Sequence[str]) -> dict[str, Callable[[], Engine]]:
    """Functions that start each engine."""
    exported: dict[str, Exported] = {}  # by kind
    trained = None
    if isinstance(detector, str) and exported_kind(detector):
        kind = exported_kind(detector)
        exported[kind] = read_exported(detector, kind)
    else:
        name = detector if isinstance(detector, str) else "the config"
        is_config = not isinstance(detector, str)
        trained = random_trained(detector) if is_config else load_pretrained(detector)
        for kind in {KIND_OF[engine] for engine in names if engine in KIND_OF}:
            exported[kind] = exported_now(trained, kind, name)

    def make(name: str) -> Engine:
        if name in KIND_OF:
            return load_exported(exported[KIND_OF[name]], name)
        assert trained is not None
        return JaxEngine(trained)

    return {name: lambda name=name: make(name) for name in names}


def _measure(
    makers: Mapping[str, Callable[[], Engine]], batch_size: int, seconds: float, source: str
) -> list[dict[str, Any]]:
    """The rows of one batch size."""
    engines: dict[str, Engine] = {}
    starts: dict[str, float] = {}
    batches: list[np.ndarray] = []
    for name, make in makers.items():
        start = time.perf_counter()
        engine = engines[name] = make()
        made = time.perf_counter() - start
        if not batches:
            batches = _batches(source, engine.description.side, batch_size)
        engine.check_batch(batch_size)
        start = time.perf_counter()
        _call(engine, batches[0])
        starts[name] = made + time.perf_counter() - start
        _call(engine, batches[-1])
    wall: dict[str, list[float]] = {name: [] for name in engines}
    cpu: dict[str, list[float]] = {name: [] for name in engines}
    turn = 0
    while turn < MINIMUM_TURNS or sum(map(sum, wall.values())) < seconds * len(engines):
        order = list(engines)
        if turn % 2:  # so that no engine always follows the same other engine
            order.reverse()
        for name in order:
            start, cpu_start = time.perf_counter(), time.process_time()
            _call(engines[name], batches[turn % len(batches)])
            wall[name].append(time.perf_counter() - start)
            cpu[name].append(time.process_time() - cpu_start)
        turn += 1
    first = np.array(next(iter(wall.values())))
    return [
        {
            "engine": name,
            "version": importlib.metadata.version(PACKAGES.get(name, name)),
            "batch_size": batch_size,
            "start_seconds": starts[name],
            "ms_median": 1e3 * float(np.median(wall[name])),
            "ms_p95": 1e3 * float(np.percentile(wall[name], 95)),
            "cpu_ms_median": 1e3 * float(np.median(cpu[name])),
            "images_per_second": batch_size / float(np.median(wall[name])),
            "speed": float(np.median(first / np.array(wall[name]))),
        }
        for name in engines
    ]


def _batches(source: str, side: int, batch_size: int) -> list[np.ndarray]:
    """Up to `NUM_BATCHES` of `[batch, side, side, 3] uint8`."""
    if not source:
        shape = (NUM_BATCHES, batch_size, side, side, 3)
        return list(np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8))
    dataset = open_dataset(source)
    read = evaluation_batches(dataset, image_size=side, batch_size=batch_size)
    return [batch["image"] for batch in itertools.islice(read, NUM_BATCHES)]


def _call(engine: Engine, pixels: np.ndarray) -> None:
    engine.fetch(engine.start(pixels, len(pixels)))


def random_trained(config: Config) -> Trained:
    """A detector with random weights, and a threshold that `CANDIDATES` boxes of an image pass.

    With the threshold of the config, every box of every class would pass, and suppression would
    take longer than the network. If several boxes have the score at the limit, none of these
    passes.
    """
    network = build_network(config.model, NUM_CLASSES)
    parameters, batch_stats = network.init(config.seed)
    rng = np.random.default_rng(config.seed)

    def drawn(array: np.ndarray) -> np.ndarray:
        """A kernel that keeps the variance; otherwise all boxes of some networks score alike."""
        if array.ndim < 4:
            return array
        scale = (2 / np.prod(array.shape[:-1])) ** 0.5
        return (scale * rng.standard_normal(array.shape)).astype(array.dtype)

    variables = (jax.tree.map(drawn, parameters), batch_stats)
    side = network.tiling.image_size
    images = np.random.default_rng(1).integers(0, 256, (2, side, side, 3), dtype=np.uint8)

    @jax.jit
    def scores(images: jax.Array) -> jax.Array:
        (_, logits), _ = network.apply(*variables, network.normalise(images), train=False)
        return jax.nn.softmax(logits.astype(jnp.float32))[..., 1:].reshape(len(images), -1)

    ranked = np.sort(np.asarray(scores(images)), axis=1)
    threshold = float(ranked[:, -min(CANDIDATES, ranked.shape[1])].max()) + ABOVE
    config = config.replace({"detection.score_threshold": min(threshold, 1.0)})
    ids = tuple(range(1, NUM_CLASSES + 1))
    return Trained(network, variables, tuple(VOC), ids, config)


def format_engines(rows: Sequence[Mapping[str, Any]]) -> str:
    """The rows of `benchmark_engines` as a table."""
    first = rows[0]["engine"]
    speed = f"× {first}"
    lines = [
        f"{'engine':<12}{'version':<12}{'batch':>6}{'images/s':>11}{'median ms':>11}"
        f"{'p95 ms':>10}{'CPU ms':>10}{'start s':>9}{speed:>{len(speed) + 2}}"
    ]
    lines += [
        f"{row['engine']:<12}{row['version']:<12}{row['batch_size']:>6}{row['images_per_second']:>11,.1f}"
        f"{row['ms_median']:>11,.2f}{row['ms_p95']:>10,.2f}{row['cpu_ms_median']:>10,.2f}"
        f"{row['start_seconds']:>9,.1f}{row['speed']:>{len(speed) + 2}.2f}"
        for row in rows
    ]
    return "\n".join(lines)
