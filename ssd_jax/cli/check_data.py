"""Check data before training: report all that is wrong with images and annotations.

    ssd-jax check-data --source=path/to/dataset --output=problems.jsonl --records=records.jsonl

Of a folder all splits are checked. Exit status 1 means that something should be fixed.
"""

from absl import flags

from ssd_jax.cli.command_line import Command, given
from ssd_jax.config.schema import DataConfig, checked

FLAGS = flags.FlagValues()
SOURCE = flags.DEFINE_string("source", None, "A folder, or FORMAT:…: docs/data.md has all.", FLAGS)
CLASSES = flags.DEFINE_string(
    "classes", "", "The classes there should be, joined by commas.", FLAGS
)
CLASS_MAP = flags.DEFINE_string(
    "class_map", "", "Classes by other names, as config.data.class_map: dog+puppy=dog,car=.", FLAGS
)
MAX_OBJECTS = flags.DEFINE_integer(
    "max_objects",
    DataConfig().max_objects,
    "config.data.max_objects of the training to come; images with more objects are told.",
    flag_values=FLAGS,
)
OUTPUT = flags.DEFINE_string("output", "", "A file for all findings, a JSON object a line.", FLAGS)
RECORDS = flags.DEFINE_string(
    "records", "", "A file for the records as training reads them, a JSON object a line.", FLAGS
)


def main(arguments: list[str]) -> int:
    """Flags in, one call, a printed result."""
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
