"""Evaluates a trained SSD, or detections made elsewhere: AP by the rules of Pascal VOC and COCO.

python evaluate.py --workdir=runs/quickstart
python evaluate.py --detections=detections.json --source=voc_xml:my_pictures:test
python evaluate.py --compare=old.json,new.json --source=voc_xml:my_pictures:test
"""

from typing import Any

from absl import flags

from ssd_jax.cli import command_line, console
from ssd_jax.config.schema import DataConfig, as_config
from ssd_jax.distributed import devices
from ssd_jax.errors import UserError
from ssd_jax.evaluation.summary import METRICS
from ssd_jax.runs import workdir
from ssd_jax.runs.evaluate import EvaluationOptions, compare_files, evaluate, evaluate_file
from ssd_jax.storage.files import local_path

CONFIG = command_line.define_config("A config file; by default the config of the run.")
# What is evaluated.
WORKDIR = flags.DEFINE_string("workdir", "", "The work directory of the run.")
CHECKPOINT = flags.DEFINE_integer("checkpoint", None, "The step to evaluate; by default the last.")
DETECTIONS = flags.DEFINE_string(
    "detections", "", "Instead of a run: a COCO results JSON, or a folder of VOC result files."
)
COMPARE = flags.DEFINE_list("compare", [], "Several of such files, to compare with the first.")
SOURCE = flags.DEFINE_string("source", "", "Other data than config.data.eval: see the README.")
# How it detects; by default as config.detection says.
SCORE_THRESHOLD = flags.DEFINE_float(
    "score_threshold", None, "Leaves out lower scores.", lower_bound=0.0, upper_bound=1.0
)
NMS_THRESHOLD = flags.DEFINE_float(
    "nms_threshold", None, "IoU above which a worse box is dropped.", lower_bound=0, upper_bound=1
)
TOP_K = flags.DEFINE_integer("top_k", None, "Detections kept of an image.", lower_bound=1)
FLIP = flags.DEFINE_bool("flip", False, "Looks at the mirrored picture too.")
# How it is measured, and what is written.
METRIC = flags.DEFINE_enum(
    "metric", "all", [*METRICS, "all"], "11-point AP, area, COCO's, or all of them."
)
IOU_THRESHOLD = flags.DEFINE_float(
    "iou_threshold", 0.5, "IoU of a match by VOC's rules.", lower_bound=0.0, upper_bound=1.0
)
OUTPUT = flags.DEFINE_string("output", "", "A JSON file to write the numbers to.")
SUBMISSION = flags.DEFINE_string(
    "submission",
    "",
    "A folder to write the detections to, as the servers of VOC and COCO take them.",
)
REPORT = flags.DEFINE_string("report", "", "A folder to write a page about the results to.")
PROCESSES = command_line.define_processes()


def run_config() -> Any:
    """The config that was given, or that of the run, with the flags put in; None without either."""
    config = CONFIG.value
    if config is None and WORKDIR.value:
        config = workdir.read_config(local_path(WORKDIR.value))
    if config is not None:
        given = {
            "detection.score_threshold": SCORE_THRESHOLD.value,
            "detection.nms_iou_threshold": NMS_THRESHOLD.value,
            "detection.detections_per_image": TOP_K.value,
            "data.eval": SOURCE.value or None,
        }
        changes = {name: value for name, value in given.items() if value is not None}
        config = as_config(config).replace(changes)
    return config


def metrics(config: Any) -> tuple[str, ...]:
    """Those to compute, the one of the config first."""
    if METRIC.value != "all":
        return (METRIC.value,)
    first = config.metric if config is not None else METRICS[0]
    return (first, *(metric for metric in METRICS if metric != first))


def main(argv: list[str]) -> None:
    """Flags in, one call, a printed result."""
    del argv
    with console.session():
        if sum(map(bool, (WORKDIR.value, DETECTIONS.value, COMPARE.value))) != 1:
            raise UserError("name one of --workdir, --detections and --compare")
        config = run_config()
        options = EvaluationOptions(
            metrics=metrics(config),
            metric_iou_threshold=IOU_THRESHOLD.value,
            output=OUTPUT.value,
            report=REPORT.value,
            submission=SUBMISSION.value,
        )
        if WORKDIR.value:
            devices.initialize(**PROCESSES())
            evaluate(
                config,
                WORKDIR.value,
                checkpoint=CHECKPOINT.value,
                flip=FLIP.value,
                options=options,
            )
            return
        if not SOURCE.value and config is None:
            raise UserError("name the data with --source, or a --config")
        data = config.data if config is not None else DataConfig(eval=SOURCE.value)
        if DETECTIONS.value:
            evaluate_file(data, DETECTIONS.value, options)
        else:
            compare_files(data, COMPARE.value, options)


if __name__ == "__main__":
    command_line.run(main)
