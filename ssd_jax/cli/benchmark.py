"""Measure how fast this machine is.

    ssd-jax benchmark all --config=ssd300_voc --output=speed.json --chart=speed.png
    ssd-jax benchmark data --config=ssd300_voc
    ssd-jax benchmark predict --weights=my_detector --engines=jax,onnx,openvino

`train` is the train step on random images that lie on the device, `predict` detection with and
without decoding and suppression: images a second, by precision and batch size. `parts` are the
shares of matching, mining, suppression and others. `data` is the input pipeline (reading alone,
decoding and resizing alone, and all of it), on images like those of Pascal VOC unless --source
names others; `files` is `ssd-jax predict` on a folder of such images. `all` is all of these.
`predict --engines` compares what runs the network, on the same images in turn.
"""

from typing import Any

from absl import flags

from ssd_jax.cli.command_line import Command, define_weights, given
from ssd_jax.config.files import config_name, define_config, given_config
from ssd_jax.config.schema import Config
from ssd_jax.errors import UserError
from ssd_jax.storage.files import write_json
from ssd_jax.storage.outputs import check_outputs

MODES = ("train", "predict", "parts", "data", "files", "all")

FLAGS = flags.FlagValues()
define_config(values=FLAGS)
ENGINES = flags.DEFINE_list(
    "engines",
    [],
    "For predict: jax, onnx, openvino, tflite; the others are compared with the first.",
    FLAGS,
)
WEIGHTS = define_weights(FLAGS)
PRECISIONS = flags.DEFINE_list(
    "precisions", [], "float32, tf32, bfloat16; by default those that differ.", FLAGS
)
BATCH_SIZES = flags.DEFINE_list(
    "batch_sizes",
    [],
    "Images of all devices together; by default doubled until memory ends.",
    FLAGS,
)
SECONDS = flags.DEFINE_float("seconds", 4.0, "How long one measurement takes.", flag_values=FLAGS)
SOURCE = flags.DEFINE_string(
    "source", "", "Images for data and for --engines: see docs/data.md.", FLAGS
)
CORES = flags.DEFINE_integer(
    "cores", 0, "How many of the machine's cores data uses; 0 = all.", flag_values=FLAGS
)
IMAGES = flags.DEFINE_integer(
    "images", 0, "How many images data and files take at least.", flag_values=FLAGS
)
PROFILE = flags.DEFINE_string("profile", "", "A folder for traces of train and predict.", FLAGS)
OUTPUT = flags.DEFINE_string("output", "", "A JSON file to write the numbers to.", FLAGS)
CHART = flags.DEFINE_string("chart", "", "A PNG file for images a second by batch size.", FLAGS)


def main(arguments: list[str]) -> None:
    """Flags in, calls, printed results."""
    if len(arguments) != 1 or arguments[0] not in MODES:
        raise UserError(
            f"what to measure is {' '.join(arguments)!r}, but must be one of {', '.join(MODES)}"
        )
    check_outputs(PROFILE.value, OUTPUT.value, CHART.value)
    _check_engines(arguments[0])
    wanted: set[str] = set(MODES) if arguments[0] == "all" else {arguments[0]}
    sizes = [_whole_number(size) for size in BATCH_SIZES.value]
    config = None if WEIGHTS.value else given_config(FLAGS)

    import jax

    from ssd_jax.distributed import devices
    from ssd_jax.runs.provenance import versions

    # What compiling takes is measured too.
    jax.config.update("jax_enable_compilation_cache", False)
    result = {"device": devices.describe_devices(), "versions": versions()}
    if ENGINES.value:
        result["detector"] = WEIGHTS.value or config_name(FLAGS)
        _tell(result, _measure_engines(config or given(WEIGHTS), sizes))
        return
    assert config is not None
    result["config"] = config.model_dump(mode="json")
    for measure in (_measure_device, _measure_host):
        _tell(result, measure(config, wanted, sizes))


# The numbers by what was measured, and the texts about them.
Measured = tuple[dict[str, Any], list[str]]


def _tell(result: dict[str, Any], measured: Measured) -> None:
    """Adds numbers to the result, writes it, and prints the texts."""
    result |= measured[0]
    if OUTPUT.value:  # before it is printed, for that can fail
        write_json(OUTPUT.value, result)
    for text in measured[1]:
        print(text)


def _measure_engines(detector: Config | str, sizes: list[int]) -> Measured:
    """`predict` by several engines."""
    from ssd_jax.benchmark.engines import benchmark_engines, format_engines

    rows = benchmark_engines(detector, ENGINES.value, sizes, SECONDS.value, SOURCE.value)
    return {"engines": rows}, [format_engines(rows)]


def _measure_device(config: Config, wanted: set[str], sizes: list[int]) -> Measured:
    """`train`, `predict` and `parts`."""
    result, texts = {}, []
    modes = [mode for mode in ("train", "predict") if mode in wanted]
    if modes:
        from ssd_jax.benchmark import tables
        from ssd_jax.benchmark.network import benchmark_network
        from ssd_jax.distributed import devices

        modes += ["forward"] * ("predict" in wanted)
        result = benchmark_network(
            config, modes, PRECISIONS.value, sizes, SECONDS.value, PROFILE.value
        )
        texts.append(tables.format_network(result))
        if CHART.value:
            tables.draw_network(result, devices.describe_devices(), CHART.value)
    if "parts" in wanted:
        from ssd_jax.benchmark import tables
        from ssd_jax.benchmark.parts import benchmark_parts

        rows = benchmark_parts(config, PRECISIONS.value, *sizes[:1], seconds=SECONDS.value)
        result["parts"] = rows
        texts.append(tables.format_parts(rows))
    return result, texts


def _measure_host(config: Config, wanted: set[str], sizes: list[int]) -> Measured:
    """`data` and `files`."""
    result, texts = {}, []
    if wanted & {"data", "files"}:
        from ssd_jax.benchmark import host

        if "data" in wanted:
            result["data"] = host.benchmark_data(
                config, SOURCE.value, CORES.value, IMAGES.value, SECONDS.value
            )
            texts.append(host.format_data(result["data"]))
        if "files" in wanted:
            result["files"] = host.benchmark_files(config, IMAGES.value, *sizes[:1])
            texts.append(host.format_files(result["files"]))
    return result, texts


def _check_engines(what: str) -> None:
    """Refuses flags that have no effect with --engines, and flags that need it."""
    if not ENGINES.value:
        if WEIGHTS.value:
            raise UserError("--weights goes with predict --engines: name a config with --config")
        if FLAGS["config"].value is None:
            raise UserError("--config=… is missing: it names the config to measure, as ssd300_voc")
        return
    if what != "predict":
        raise UserError(f"--engines goes with predict, not with {what}")
    if bool(WEIGHTS.value) == (FLAGS["config"].value is not None):
        raise UserError(
            "name either --weights, what `ssd-jax export` wrote, or --config, whose network has "
            "random weights"
        )
    for holder in (PRECISIONS, CORES, IMAGES, PROFILE, CHART):
        if holder.present:
            raise UserError(f"--{holder.name} does not go with --engines")
    if SECONDS.value <= 0:
        raise UserError(f"--seconds is {SECONDS.value}, but must be more than 0")

    from ssd_jax.benchmark.engines import check_engines

    check_engines(ENGINES.value, WEIGHTS.value or "")


def _whole_number(text: str) -> int:
    if not text.isdecimal():
        raise UserError(f"--batch_sizes has {text!r}, but must be whole numbers: 8,16,32")
    return int(text)


COMMAND = Command(FLAGS, main, arguments="WHAT")
