"""Measure the speed of training, prediction, data loading and inference engines.

    ssd-jax benchmark all --config=ssd300_voc --output=speed.json --chart=speed.png
    ssd-jax benchmark data --config=ssd300_voc
    ssd-jax benchmark predict --weights=my_detector --engines=jax,onnx,openvino

Values of WHAT:

    train     the training step, on random images in device memory
    predict   detection, with and without box decoding and non-maximum suppression (NMS);
              with --engines, several inference engines on the same images in turn,
              and the time of `ssd-jax predict` with each, from its start to its end
    parts     the shares of matching, hard negative mining, NMS and other parts of a step
    data      the input pipeline: reading alone, decoding and resizing alone, and all of it
    files     `ssd-jax predict` on a folder of images
    all       all of these

`train` and `predict` print images per second by precision and batch size. `data` and `files` read
generated images like those of Pascal VOC; --source names other images for `data`.
"""

from typing import Any

from absl import flags

from ssd_jax.cli.command_line import Command, define_weights, given
from ssd_jax.config.files import config_name, define_config, given_config
from ssd_jax.config.schema import Config
from ssd_jax.errors import UserError
from ssd_jax.storage.files import write_json
from ssd_jax.storage.outputs import (
    CHARTS,
    check_json_file,
    check_output_files,
    check_outputs,
    check_picture_file,
)

MAX_SECONDS = 1e6
MODES = ("train", "predict", "parts", "data", "files", "all")

FLAGS = flags.FlagValues()
define_config(values=FLAGS)
ENGINES = flags.DEFINE_list(
    "engines",
    [],
    "For predict: jax, onnx, openvino, tflite, joined by commas; the others are compared with the "
    "first.",
    FLAGS,
)
WEIGHTS = define_weights(FLAGS)
PRECISIONS = flags.DEFINE_list(
    "precisions",
    [],
    "float32, tf32, bfloat16, joined by commas; by default those that differ on this device.",
    FLAGS,
)
BATCH_SIZES = flags.DEFINE_list(
    "batch_sizes",
    [],
    "Batch sizes over all devices, joined by commas; by default doubled until memory is full.",
    FLAGS,
)
SECONDS = flags.DEFINE_float(
    "seconds", 4.0, "The duration of one measurement in seconds.", flag_values=FLAGS
)
SOURCE = flags.DEFINE_string(
    "source", "", "The images for data and for --engines: docs/data.md.", FLAGS
)
CORES = flags.DEFINE_integer(
    "cores", 0, "The number of CPU cores for data; 0 for all.", flag_values=FLAGS
)
IMAGES = flags.DEFINE_integer(
    "images", 0, "The minimum number of images for data and files.", flag_values=FLAGS
)
PROFILE = flags.DEFINE_string("profile", "", "A folder for traces of train and predict.", FLAGS)
OUTPUT = flags.DEFINE_string("output", "", "A JSON file for the numbers.", FLAGS)
CHART = flags.DEFINE_string(
    "chart", "", "A PNG file for a chart: images per second by batch size.", FLAGS
)


def main(arguments: list[str]) -> None:
    """Runs the command with its flags and prints the results."""
    if len(arguments) != 1 or arguments[0] not in MODES:
        raise UserError(
            f"WHAT to measure is {' '.join(arguments)!r}, but must be one of {', '.join(MODES)}"
        )
    if not 0 < SECONDS.value < MAX_SECONDS:  # nan is refused as well
        raise UserError(
            f"--seconds is {SECONDS.value}, but must be more than 0 and less than {MAX_SECONDS:,}"
        )
    check_output_files(OUTPUT.value, CHART.value)
    check_json_file(OUTPUT.value)
    check_picture_file(CHART.value, CHARTS)
    check_outputs(PROFILE.value, OUTPUT.value, CHART.value)
    _check_engines(arguments[0])
    wanted: set[str] = set(MODES) if arguments[0] == "all" else {arguments[0]}
    sizes = [_whole_number(size) for size in BATCH_SIZES.value]
    config = None if WEIGHTS.value else given_config(FLAGS)

    import jax

    from ssd_jax.distributed import devices
    from ssd_jax.runs.provenance import versions

    # The time of compiling is measured too.
    jax.config.update("jax_enable_compilation_cache", False)
    result = {"device": devices.describe_devices(), "versions": versions()}
    if ENGINES.value:
        result["detector"] = WEIGHTS.value or config_name(FLAGS)
        _add_result(result, _measure_engines(config or given(WEIGHTS), sizes))
        return
    assert config is not None
    result["config"] = config.model_dump(mode="json")
    for measure in (_measure_device, _measure_host):
        _add_result(result, measure(config, wanted, sizes))


# The numbers by their subject, and the texts about them.
Measured = tuple[dict[str, Any], list[str]]


def _add_result(result: dict[str, Any], measured: Measured) -> None:
    """Adds numbers to the result, writes it, and prints the texts."""
    result |= measured[0]
    if OUTPUT.value:  # before printing, which can fail
        write_json(OUTPUT.value, result)
    for text in measured[1]:
        print(text)


def _measure_engines(detector: Config | str, sizes: list[int]) -> Measured:
    """`predict` by several engines."""
    from ssd_jax.benchmark.engines import benchmark_engines, format_engines
    from ssd_jax.benchmark.starts import benchmark_starts, format_starts

    rows = benchmark_engines(detector, ENGINES.value, sizes, SECONDS.value, SOURCE.value)
    starts = benchmark_starts(detector, ENGINES.value)
    return {"engines": rows, "starts": starts}, [format_engines(rows), format_starts(starts)]


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
            "name either --weights, an exported detector, or --config, whose network has random "
            "weights"
        )
    for holder in (PRECISIONS, CORES, IMAGES, PROFILE, CHART):
        if holder.present:
            raise UserError(f"--{holder.name} does not go with --engines")

    from ssd_jax.benchmark.engines import check_engines

    check_engines(ENGINES.value, WEIGHTS.value or "")


def _whole_number(text: str) -> int:
    if not text.isdecimal():
        raise UserError(f"--batch_sizes has {text!r}, but must be whole numbers: 8,16,32")
    return int(text)


COMMAND = Command(FLAGS, main, arguments="WHAT")
