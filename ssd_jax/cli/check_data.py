"""Check data before training: report all that is wrong with images and annotations.

    ssd-jax check-data --source=path/to/dataset --output=problems.jsonl

Exit status 1 means that something should be fixed.
"""

from absl import flags

from ssd_jax.cli.command_line import Command, given
from ssd_jax.config.schema import DataConfig, split_names

FLAGS = flags.FlagValues()
SOURCE = flags.DEFINE_string("source", None, "The data: see the README.", FLAGS)
CLASSES = flags.DEFINE_string(
    "classes", "", "The classes there should be, joined by commas.", FLAGS
)
MAX_OBJECTS = flags.DEFINE_integer(
    "max_objects",
    DataConfig().max_objects,
    "config.data.max_objects of the training to come; images with more objects are told.",
    flag_values=FLAGS,
)
OUTPUT = flags.DEFINE_string("output", "", "A file for all findings, a JSON object a line.", FLAGS)


def main(arguments: list[str]) -> int:
    """Flags in, one call, a printed result."""
    del arguments
    from ssd_jax.diagnostics.check_data import check_data, format_report

    report = check_data(given(SOURCE), split_names(CLASSES.value), OUTPUT.value, MAX_OBJECTS.value)
    print(format_report(report, OUTPUT.value))
    return 1 if report.problems() else 0


COMMAND = Command(FLAGS, main, required=("source",))
