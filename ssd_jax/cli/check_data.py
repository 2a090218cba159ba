"""Check images and annotations before training, and report every problem.

    ssd-jax check-data --source=path/to/dataset --output=problems.jsonl --records=records.jsonl

All splits of a folder are checked. Exit status 1: there are problems to fix.
"""

from absl import flags

from ssd_jax.cli.command_line import Command, given
from ssd_jax.config.schema import DataConfig, checked

FLAGS = flags.FlagValues()
SOURCE = flags.DEFINE_string(
    "source", None, "The data: a folder, or another source (docs/data.md).", FLAGS
)
CLASSES = flags.DEFINE_string("classes", "", "The expected classes, joined by commas.", FLAGS)
CLASS_MAP = flags.DEFINE_string(
    "class_map",
    "",
    "Renamed, joined and removed classes, as in config.data.class_map: dog+puppy=dog,car=.",
    FLAGS,
)
MAX_OBJECTS = flags.DEFINE_integer(
    "max_objects",
    DataConfig().max_objects,
    "config.data.max_objects of the planned training; images with more objects are reported.",
    flag_values=FLAGS,
)
OUTPUT = flags.DEFINE_string(
    "output", "", "A file for all findings, one JSON object per line.", FLAGS
)
RECORDS = flags.DEFINE_string(
    "records", "", "A file for the records as training reads them, one JSON object per line.", FLAGS
)


def main(arguments: list[str]) -> int:
    """Runs the command with its flags and prints the result."""
    del arguments
    from ssd_jax.diagnostics.check_data import check_data
    from ssd_jax.diagnostics.check_report import format_report

    data = checked(DataConfig, {"classes": CLASSES.value, "class_map": CLASS_MAP.value})
    report = check_data(
        given(SOURCE),
        data.class_names,
        OUTPUT.value,
        MAX_OBJECTS.value,
        data.renamed_classes,
        RECORDS.value,
    )
    print(format_report(report, OUTPUT.value))
    return 1 if report.problems() else 0


COMMAND = Command(FLAGS, main, required=("source",))
