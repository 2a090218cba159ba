"""Measures how fast this machine is.

    python benchmark.py data --config=configs/ssd300_voc.py
    python benchmark.py predict --config=configs/ssd300_voc.py

`data` is the input pipeline: images a second for reading alone, for decoding and resizing alone,
and for the whole of it. Without --source it makes pictures like those of Pascal VOC.
`predict` is predict.py on a folder of such pictures, beside decoding alone and the network alone.
"""

import json
from pathlib import Path

from absl import flags

from ssd_jax import benchmark, command_line, console
from ssd_jax.errors import UserError

CONFIG = command_line.define_config()
SOURCE = flags.DEFINE_string("source", "", "Which pictures: see README for the grammar.")
CORES = flags.DEFINE_integer("cores", 0, "How many of the machine's cores to use; 0 = all.")
IMAGES = flags.DEFINE_integer("images", 0, "How many images at least.")
BATCH_SIZE = flags.DEFINE_integer("batch_size", 8, "Pictures that predict.py takes at a time.")
SECONDS = flags.DEFINE_float("seconds", 4.0, "How long one of nine measurements takes.")
OUTPUT = flags.DEFINE_string("output", None, "A JSON file to write the numbers to.")


def main(argv: list[str]) -> None:
    """Flags in, one call, a printed result."""
    with console.session():
        if argv[1:] == ["data"]:
            result = benchmark.benchmark_data(
                CONFIG.value, SOURCE.value, CORES.value, IMAGES.value, SECONDS.value
            )
            print(benchmark.format_data(result))
        elif argv[1:] == ["predict"]:
            result = benchmark.benchmark_predict(CONFIG.value, IMAGES.value, BATCH_SIZE.value)
            print(benchmark.format_predict(result))
        else:
            raise UserError(
                f"what to measure is {' '.join(argv[1:])!r}, but must be data or predict"
            )
        if OUTPUT.value:
            Path(OUTPUT.value).write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    command_line.run(main, required=["config"])
