"""Measures how fast this machine is.

    python benchmark.py all --config=configs/ssd300_voc.py --output=speed.json --chart=speed.png

`train` is the train step on random pictures that lie on the device, `predict` detection with and
without decoding and suppression: images a second, by precision and batch size. `parts` are the
shares of matching, mining, suppression and others. `data` is the input pipeline (reading alone,
decoding and resizing alone, and all of it), on pictures like those of Pascal VOC unless --source
names others; `files` is predict.py on a folder of such pictures. `all` is all of these.
"""

import jax
from absl import flags

from ssd_jax.benchmark import host, tables
from ssd_jax.benchmark.network import benchmark_network
from ssd_jax.benchmark.parts import benchmark_parts
from ssd_jax.cli import command_line, console
from ssd_jax.config.schema import as_config
from ssd_jax.distributed import devices
from ssd_jax.errors import UserError
from ssd_jax.runs.provenance import versions
from ssd_jax.storage.files import write_json

MODES = ("train", "predict", "parts", "data", "files", "all")

CONFIG = command_line.define_config()
PRECISIONS = flags.DEFINE_list("precisions", [], "float32, tf32, bfloat16; default: what differs.")
BATCH_SIZES = flags.DEFINE_list(
    "batch_sizes", [], "Images of all devices together; default: doubled until memory ends."
)
SECONDS = flags.DEFINE_float("seconds", 4.0, "How long one measurement takes.")
SOURCE = flags.DEFINE_string("source", "", "Pictures for data: see README for the grammar.")
CORES = flags.DEFINE_integer("cores", 0, "How many of the machine's cores data uses; 0 = all.")
IMAGES = flags.DEFINE_integer("images", 0, "How many images data and files take at least.")
PROFILE = flags.DEFINE_string("profile", "", "A folder for traces of train and predict.")
OUTPUT = flags.DEFINE_string("output", "", "A JSON file to write the numbers to.")
CHART = flags.DEFINE_string("chart", "", "A PNG file for images a second by batch size.")


def main(argv: list[str]) -> None:
    """Flags in, calls, printed results."""
    with console.session():
        if len(argv) != 2 or argv[1] not in MODES:
            raise UserError(
                f"what to measure is {' '.join(argv[1:])!r}, but must be one of {', '.join(MODES)}"
            )
        wanted = set(MODES) if argv[1] == "all" else {argv[1]}
        sizes = [_whole_number(size) for size in BATCH_SIZES.value]
        # What compiling takes is measured too.
        jax.config.update("jax_enable_compilation_cache", False)
        result = {"device": devices.describe_devices(), "versions": versions()}
        result["config"] = as_config(CONFIG.value).model_dump(mode="json")

        modes = [mode for mode in ("train", "predict") if mode in wanted]
        if modes:
            modes += ["forward"] * ("predict" in wanted)
            result |= benchmark_network(
                CONFIG.value, modes, PRECISIONS.value, sizes, SECONDS.value, PROFILE.value
            )
            print(tables.format_network(result))
            if CHART.value:
                tables.draw_network(result, result["device"], CHART.value)
        if "parts" in wanted:
            rows = benchmark_parts(
                CONFIG.value, PRECISIONS.value, *sizes[:1], seconds=SECONDS.value
            )
            result["parts"] = rows
            print(tables.format_parts(rows))
        if "data" in wanted:
            result["data"] = host.benchmark_data(
                CONFIG.value, SOURCE.value, CORES.value, IMAGES.value, SECONDS.value
            )
            print(host.format_data(result["data"]))
        if "files" in wanted:
            result["files"] = host.benchmark_files(CONFIG.value, IMAGES.value, *sizes[:1])
            print(host.format_files(result["files"]))
        if OUTPUT.value:
            write_json(OUTPUT.value, result)


def _whole_number(text: str) -> int:
    if not text.isdecimal():
        raise UserError(f"--batch_sizes has {text!r}, but must be whole numbers: 8,16,32")
    return int(text)


if __name__ == "__main__":
    command_line.run(main, required=["config"])
