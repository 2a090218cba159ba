"""Measure how well the default boxes of a config fit the objects; propose better ones.

    ssd-jax fit-boxes --config=quickstart --output=boxes.png

Prints recall by object size, and the line of a config that sets the proposed boxes.
"""

from absl import flags

from ssd_jax.cli.command_line import Command
from ssd_jax.config.files import define_config, given_config
from ssd_jax.storage.files import write_text
from ssd_jax.storage.outputs import CHARTS, check_json_file, check_output_files, check_picture_file

FLAGS = flags.FlagValues()
define_config(values=FLAGS)
SOURCE = flags.DEFINE_string(
    "source", "", "The data with the objects; by default config.data.train.", FLAGS
)
IMAGES = flags.DEFINE_integer(
    "images", 2000, "The maximum number of images to read.", flag_values=FLAGS
)
OUTPUT = flags.DEFINE_string("output", None, "An image file for the charts.", FLAGS)
JSON = flags.DEFINE_string("json", None, "A JSON file for the numbers.", FLAGS)


def main(arguments: list[str]) -> None:
    """Runs the command with its flags and prints the result."""
    del arguments
    from ssd_jax.diagnostics.fit_boxes import fit_boxes
    from ssd_jax.diagnostics.fit_plot import plot
    from ssd_jax.diagnostics.fit_report import format_result, to_json

    check_output_files(OUTPUT.value, JSON.value)
    check_picture_file(OUTPUT.value, CHARTS)
    check_json_file(JSON.value)
    result = fit_boxes(given_config(FLAGS), SOURCE.value, IMAGES.value)
    if JSON.value:
        write_text(JSON.value, to_json(result))
    if OUTPUT.value:
        plot(result, OUTPUT.value)
    print(format_result(result))


COMMAND = Command(FLAGS, main, required=("config",))
