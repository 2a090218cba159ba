"""Measures how fast the parts of the project are on this machine."""

import statistics
import tempfile
from pathlib import Path
from typing import Any

from ssd_jax.errors import UserError

ROUNDS = 3


def benchmark_data(
    config: Any, source: str = "", cores: int = 0, num_images: int = 0, seconds: float = 4.0
) -> dict[str, Any]:
    """Images a second of the input pipeline, beside reading alone and decoding + resizing alone.

    The three take turns, so that a machine whose speed drifts treats them alike.

    Args:
      config: a config of `configs/`; its image size, batch size and augmentation count.
      source: which pictures; "" makes some like those of Pascal VOC.
      cores: how many of the machine's cores to use; 0 = all that there are.
      num_images: how many images the pipeline delivers at least, to watch its memory.
      seconds: how long one of nine measurements takes.

    Returns:
      `read`, `decode_resize` and `pipeline` in images a second; the same under `per_core`;
      `fraction`: `pipeline` over `decode_resize`; `cores`; `memory_growth_bytes`: by how much the
      process grew between the first tenth of the pipeline's images and the last.

    Raises:
      UserError: the source or a number is wrong.
    """
    from ssd_jax.data import throughput
    from ssd_jax.data.pipeline import build_train_batches
    from ssd_jax.data.sources import open_source

    for name, value in (("cores", cores), ("images", num_images)):
        if value < 0:
            raise UserError(f"{name} is {value}, but must be 0 or more")
    if seconds <= 0:
        raise UserError(f"seconds is {seconds}, but must be more than 0")
    cores = throughput.use_cores(cores)
    size, batch_size = config.model.image_size, config.batch_size
    with tempfile.TemporaryDirectory() as folder:
        pictures = open_source(source or throughput.write_voc_like(Path(folder) / "pictures"))

        def start(name):
            if name == "read":
                return throughput.read_batches(pictures, batch_size)
            if name == "decode_resize":
                return throughput.decode_resize_batches(pictures, batch_size, size)
            return build_train_batches(config, pictures, batch_size)

        rates = {"read": [], "decode_resize": [], "pipeline": []}
        for round_number in range(ROUNDS):
            for name, measured in rates.items():
                last = name == "pipeline" and round_number == ROUNDS - 1
                measured.append(
                    throughput.measure(start(name), batch_size, seconds, num_images * last)
                )

    def median(name, field):
        return statistics.median(getattr(rate, field) for rate in rates[name])

    return {
        "cores": cores,
        **{name: median(name, "per_second") for name in rates},
        "per_core": {name: median(name, "per_core") for name in rates},
        "fraction": median("pipeline", "per_second") / median("decode_resize", "per_second"),
        "memory_growth_bytes": rates["pipeline"][-1].memory_growth,
    }


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
    lines.append(f"the pipeline runs at {result['fraction']:.0%} of decode + resize")
    growth = result["memory_growth_bytes"] / 2**20
    lines.append(f"memory: {growth:+.0f} MiB after the first tenth of its images")
    return "\n".join(lines)
