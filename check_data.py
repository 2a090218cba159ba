"""Goes over data before training: tells all that is wrong with pictures and annotations.

python check_data.py --source=voc_xml:my_pictures:trainval --output=problems.jsonl
"""

import sys

from absl import flags

from ssd_jax.cli import command_line, console
from ssd_jax.data.class_lists import split_names
from ssd_jax.diagnostics.check_data import check_data, format_report

SOURCE = flags.DEFINE_string("source", None, "The data: see the README.")
CLASSES = flags.DEFINE_string("classes", "", "The classes there should be, joined by commas.")
OUTPUT = flags.DEFINE_string("output", "", "A file for all findings, a JSON object a line.")


def main(argv: list[str]) -> None:
    """Flags in, one call, a printed result."""
    del argv
    with console.session():
        report = check_data(SOURCE.value, split_names(CLASSES.value), OUTPUT.value)
        print(format_report(report, OUTPUT.value))
        if report.problems():
            sys.exit(1)


if __name__ == "__main__":
    command_line.run(main, required=["source"])
