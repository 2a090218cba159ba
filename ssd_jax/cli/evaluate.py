"""Evaluate a detector, or a file of detections, by the rules of Pascal VOC and COCO.

    ssd-jax evaluate --workdir=runs/quickstart --report=report
    ssd-jax evaluate --weights=deploy/detector.onnx --source=path/to/dataset:test
    ssd-jax evaluate --detections=detections.json --source=path/to/dataset:test
    ssd-jax evaluate --compare=old.json,new.json --source=path/to/dataset:test
    ssd-jax evaluate --detections=detections.json --workdir=runs/mine

Prints the average precision (AP) of each class, and their mean (mAP).
"""

from collections.abc import Sequence

from absl import flags

from ssd_jax.cli.command_line import (
    Command,
    define_checkpoint,
    define_engine,
    define_processes,
    define_weights,
)
from ssd_jax.config.files import define_config, given_config, given_fields
from ssd_jax.config.schema import Config, DataConfig
from ssd_jax.errors import UserError

FLAGS = flags.FlagValues()
# The subject of the evaluation.
WORKDIR = flags.DEFINE_string(
    "workdir",
    "",
    "The work directory of a run. With --weights, --detections or --compare, only its data and "
    "classes are used.",
    FLAGS,
)
WEIGHTS = define_weights(FLAGS)
ENGINE = define_engine(FLAGS)
CHECKPOINT = define_checkpoint(FLAGS)
DETECTIONS = flags.DEFINE_string(
    "detections",
    "",
    "Detections to evaluate: a COCO results JSON, detections.json of `ssd-jax predict`, or a "
    "folder of VOC result files.",
    FLAGS,
)
COMPARE = flags.DEFINE_list(
    "compare",
    [],
    "Two or more such files, joined by commas; the others are compared with the first.",
    FLAGS,
)
SOURCE = flags.DEFINE_string(
    "source", "", "The data to evaluate on, instead of config.data.eval: docs/data.md.", FLAGS
)
CONFIG = define_config("The config: a name or a file; by default that of the run.", FLAGS)
# The settings of the detector; by default those of config.detection.
SCORE_THRESHOLD = flags.DEFINE_float(
    "score_threshold",
    None,
    "The lowest score of a detection; by default that of the config, like the next two.",
    lower_bound=0.0,
    upper_bound=1.0,
    flag_values=FLAGS,
)
NMS_THRESHOLD = flags.DEFINE_float(
    "nms_threshold",
    None,
    "Non-maximum suppression: the IoU above which the box with the lower score is removed.",
    lower_bound=0.0,
    upper_bound=1.0,
    flag_values=FLAGS,
)
TOP_K = flags.DEFINE_integer(
    "top_k", None, "The maximum number of detections per image.", lower_bound=1, flag_values=FLAGS
)
FLIP = flags.DEFINE_bool("flip", False, "Also detect in the mirrored image.", FLAGS)
# The metrics and the output.
METRIC = flags.DEFINE_string(
    "metric", "all", "voc07 (11-point AP), voc (area under the curve), coco, or all.", FLAGS
)
IOU_THRESHOLD = flags.DEFINE_float(
    "iou_threshold",
    0.5,
    "For VOC's rules, the IoU that a detection must exceed to match an object.",
    lower_bound=0.0,
    upper_bound=1.0,
    flag_values=FLAGS,
)
OUTPUT = flags.DEFINE_string("output", "", "A JSON file for the numbers.", FLAGS)
SUBMISSION = flags.DEFINE_string(
    "submission",
    "",
    "A folder for the detections, in the form that the servers of VOC and COCO accept.",
    FLAGS,
)
REPORT = flags.DEFINE_string(
    "report", "", "A folder for an HTML report: curves, kinds of errors, worst images.", FLAGS
)
PROCESSES = define_processes(FLAGS)


def main(arguments: list[str]) -> None:
    """Runs the command with its flags and prints the result."""
    del arguments
    files = [holder for holder in (WEIGHTS, DETECTIONS, COMPARE) if holder.value]
    if len(files) > 1:
        raise UserError(f"name --{files[0].name} or --{files[1].name}, not both")
    if not (WORKDIR.value or files):
        raise UserError("name one of --workdir, --weights, --detections and --compare")
    _check_engine()

    from ssd_jax.distributed import devices
    from ssd_jax.runs.evaluate import EvaluationOptions, compare_files, evaluate, evaluate_file

    config = _config()
    options = EvaluationOptions(
        metrics=_metrics(config),
        metric_iou_threshold=IOU_THRESHOLD.value,
        output=OUTPUT.value,
        report=REPORT.value,
        submission=SUBMISSION.value,
    )
    if config and not files:
        devices.initialize(**PROCESSES())
        evaluate(
            config,
            WORKDIR.value,
            checkpoint=CHECKPOINT(),
            flip=FLIP.value,
            options=options,
        )
        return
    if not SOURCE.value and config is None:
        raise UserError("name the data with --source, --config, or the --workdir of a run")
    data = config.data if config else DataConfig(eval=SOURCE.value)
    seed = config.seed if config else 0
    if WEIGHTS.value:
        from ssd_jax.inference.evaluation import BATCH_SIZE, evaluate_detector
        from ssd_jax.inference.loading import load_detector

        evaluate_detector(
            load_detector(None, WEIGHTS.value, engine=ENGINE.value),
            WEIGHTS.value,
            data,
            options,
            seed=seed,
            workdir=WORKDIR.value,
            batch_size=config.batch_size if config else BATCH_SIZE,
        )
    elif DETECTIONS.value:
        evaluate_file(data, DETECTIONS.value, options, seed, WORKDIR.value)
    else:
        compare_files(data, COMPARE.value, options, seed, WORKDIR.value)


def _check_engine() -> None:
    """Raises a `UserError` for flags without effect on --weights, and for --engine without it."""
    if not WEIGHTS.value:
        if ENGINE.value:
            raise UserError("--engine goes with --weights: a run is evaluated in JAX")
        return
    decided = ("checkpoint", "score_threshold", "nms_threshold", "top_k", "flip")
    of_processes = ("coordinator", "num_processes", "process_id")
    given = [name for name in (*decided, *of_processes) if FLAGS[name].present]
    given += [
        f"config.{name}"
        for name in sorted(given_fields(FLAGS))
        if name.startswith(("model.", "detection."))
    ]
    if given:
        why = (
            "one process detects"
            if given[0] in of_processes
            else "it detects with the network and the thresholds that were exported"
        )
        raise UserError(f"--{given[0]} does not go with --weights: {why}")


def _config() -> Config | None:
    """The given config, or that of the run, with the flags applied; None without either."""
    from ssd_jax.runs.stores import run_copy
    from ssd_jax.runs.workdir import read_config

    if CONFIG.value is not None:
        config = given_config(FLAGS)
    elif WORKDIR.value:
        config = read_config(run_copy(WORKDIR.value))
    else:
        return None
    given = {
        "detection.score_threshold": SCORE_THRESHOLD.value,
        "detection.nms_iou_threshold": NMS_THRESHOLD.value,
        "detection.detections_per_image": TOP_K.value,
        "data.eval": SOURCE.value or None,
    }
    return config.replace({name: value for name, value in given.items() if value is not None})


def _metrics(config: Config | None) -> Sequence[str]:
    """The metrics to compute, that of the config first."""
    from ssd_jax.evaluation.metrics import METRICS

    if METRIC.value == "all":
        first = config.metric if config else None
        return sorted(METRICS, key=lambda metric: metric != first)
    if METRIC.value not in METRICS:
        raise UserError(
            f"--metric is {METRIC.value!r}, but must be one of {', '.join(METRICS)}, all"
        )
    return (METRIC.value,)


COMMAND = Command(FLAGS, main)
