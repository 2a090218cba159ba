"""Benchmarks of the host: the input pipeline, and `ssd-jax predict` on files."""

import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ml_collections import ConfigDict

from ssd_jax.benchmark.voc_like import VOC_OBJECTS, write_voc_like
from ssd_jax.config.schema import Config, as_config
from ssd_jax.errors import UserError
from ssd_jax.threads import map_ahead, num_cores, pool_of_threads

if TYPE_CHECKING:
    from ssd_jax.inference.detector import Detector

ROUNDS = 3
PREDICT_ROUNDS = 5


def benchmark_data(
    config: Config | ConfigDict,
    source: str = "",
    cores: int = 0,
    num_images: int = 0,
    seconds: float = 4.0,
) -> dict[str, Any]:
    """Images per second of the input pipeline, of reading alone and of decoding + resizing alone.

    The three are measured in turns, so that changes of the machine's speed affect all of them.

    Args:
      config: a config of `configs/`; its image size, batch size and augmentation are used.
      source: the images; "" generates images like those of Pascal VOC.
      cores: the number of CPU cores to use; 0 = all.
      num_images: the minimum number of images of the pipeline, to measure the growth of memory.
      seconds: the time of each of nine measurements.

    Returns:
      `read`, `decode_resize` and `pipeline` in images per second; the same under `per_core`;
      `fraction`: `pipeline` over `decode_resize`; `cores`; `memory_growth_bytes`: the growth of the
      process between the first tenth of the pipeline's images and the last image.

    Raises:
      UserError: the config, the source or a number is wrong.
    """
    from ssd_jax.benchmark import input_pipeline
    from ssd_jax.data.sources import open_dataset
    from ssd_jax.data.training_batches import training_batches

    config = as_config(config)
    _check_numbers(cores, num_images, seconds)
    cores = input_pipeline.use_cores(cores)
    size, batch_size = config.model.image_size, config.batch_size
    with tempfile.TemporaryDirectory() as folder:
        images = open_dataset(source or write_voc_like(Path(folder) / "images"))

        start = {
            "read": lambda: input_pipeline.read_batches(images, batch_size),
            "decode_resize": lambda: input_pipeline.decode_resize_batches(images, batch_size, size),
            "pipeline": lambda: training_batches(config, images, batch_size),
        }
        rates = {name: [] for name in start}
        for round_number in range(ROUNDS):
            for name, measured in rates.items():
                least = num_images * (name == "pipeline" and round_number == ROUNDS - 1)
                measured.append(input_pipeline.measure(start[name](), batch_size, seconds, least))

    def median(name, field):
        return statistics.median(getattr(rate, field) for rate in rates[name])

    return {
        "cores": cores,
        **{name: median(name, "per_second") for name in rates},
        "per_core": {name: median(name, "per_core") for name in rates},
        "fraction": median("pipeline", "per_second") / median("decode_resize", "per_second"),
        "memory_growth_bytes": rates["pipeline"][-1].memory_growth,
    }


def _check_numbers(cores: int, num_images: int, seconds: float) -> None:
    """Raises a `UserError` for a number out of range."""
    for name, value in (("cores", cores), ("images", num_images)):
        if value < 0:
            raise UserError(f"{name} is {value}, but must be 0 or more")
    if seconds <= 0:
        raise UserError(f"seconds is {seconds}, but must be more than 0")


def format_data(result: dict[str, Any]) -> str:
    """The result of `benchmark_data` as a table."""
    titles = {
        "read": "read",
        "decode_resize": "decode + resize",
        "pipeline": "full pipeline",
    }
    cores = f"{result['cores']} core{'s' if result['cores'] > 1 else ''}"
    lines = [f"{'images/s, ' + cores:<20}{'total':>10}{'per core':>10}"]
    lines += [
        f"{title:<20}{result[name]:>10,.0f}{result['per_core'][name]:>10,.0f}"
        for name, title in titles.items()
    ]
    by_core = result["per_core"]["pipeline"] / result["per_core"]["decode_resize"]
    lines.append(
        f"the pipeline runs at {result['fraction']:.0%} of decode + resize, "
        f"{by_core:.0%} by CPU time"
    )
    growth = result["memory_growth_bytes"] / 2**20
    lines.append(f"memory: {growth:+.0f} MiB after the first tenth of its images")
    return "\n".join(lines)


def benchmark_files(
    config: Config | ConfigDict, num_images: int = 0, batch_size: int = 8
) -> dict[str, Any]:
    """Images per second of `ssd-jax predict`, of decoding alone and of the network alone.

    Images are like those of Pascal VOC, and about as many detections are drawn as VOC has objects.
    The network has random weights and 20 classes, and is compiled before. Decoding is reading,
    decoding and resizing, with one thread per core. The three are measured in turns, each on a
    fifth of the images, so that changes of the machine's speed affect all of them.

    Args:
      config: a config of `configs/`; its network is used.
      num_images: the number of images; 0 = 1,000.
      batch_size: images per batch on the device.

    Returns:
      Medians: `decode`, `network` and `predict` in images per second; `fraction`: `predict` over
      the slower of the others; `cores`.

    Raises:
      UserError: the config is wrong.
    """
    from ssd_jax.inference.predict import predict

    detector = _random_detector(as_config(config))

    def decode(files: Sequence[str]) -> None:
        with pool_of_threads(num_cores()) as pool:
            for _ in map_ahead(pool, detector.prepare, files, 2 * num_cores()):
                pass

    def detect(prepared: Sequence[Any]) -> None:
        for _ in detector.stream(prepared, batch_size):
            pass

    rates = {"decode": [], "network": [], "predict": []}
    with tempfile.TemporaryDirectory() as folder:
        write_voc_like(Path(folder) / "images", num_images or 1000)
        files = sorted(map(str, (Path(folder) / "images" / "JPEGImages").iterdir()))
        output, options = f"{folder}/output", {"score_threshold": 0.0, "batch_size": batch_size}
        one = [(None, detector.prepare(files[0]))]
        detect(one)
        for turn in range(PREDICT_ROUNDS):
            own = files[turn::PREDICT_ROUNDS]
            batches = one * (-(-len(own) // batch_size) * batch_size)
            predicting = _seconds(lambda own=own: predict(detector, own, output, **options))
            rates["decode"].append(len(own) / _seconds(lambda own=own: decode(own)))
            rates["network"].append(
                len(batches) / _seconds(lambda batches=batches: detect(batches))
            )
            rates["predict"].append(len(own) / predicting)
    fractions = [
        rate / min(others)
        for rate, *others in zip(rates["predict"], rates["decode"], rates["network"], strict=True)
    ]
    medians = {name: statistics.median(measured) for name, measured in rates.items()}
    return medians | {"fraction": statistics.median(fractions), "cores": num_cores()}


def _random_detector(config: Config) -> "Detector":
    """A detector of 20 classes with random weights and about as many detections as VOC objects."""
    from ssd_jax.data.class_lists import VOC
    from ssd_jax.inference.detector import Detector
    from ssd_jax.inference.jax_engine import JaxEngine
    from ssd_jax.interop.trained import Trained
    from ssd_jax.models.network import build_network

    config = config.replace({"detection.detections_per_image": round(VOC_OBJECTS)})
    network = build_network(config.model, len(VOC))
    ids = tuple(range(1, len(VOC) + 1))
    trained = Trained(network, network.init(config.seed), tuple(VOC), ids, config)
    return Detector(JaxEngine(trained))


def _seconds(work: Callable[[], object]) -> float:
    """The seconds that a call takes."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def format_files(result: dict[str, Any]) -> str:
    """The result of `benchmark_files` as a table."""
    titles = {"decode": "decode + resize", "network": "network", "predict": "ssd-jax predict"}
    cores = f"{result['cores']} core{'s' if result['cores'] > 1 else ''}"
    lines = [f"{'images/s, ' + cores:<20}"]
    lines += [f"{title:<20}{result[name]:>10,.1f}" for name, title in titles.items()]
    lines.append(f"ssd-jax predict runs at {result['fraction']:.0%} of the slower of the others")
    return "\n".join(lines)
