"""Show how the default boxes of a config fit the objects of data; propose better ones.

    ssd-jax fit-boxes --config=quickstart --output=boxes.png

Prints recall by size and the line that a config needs for the proposed boxes.
"""

from absl import flags

from ssd_jax.cli.command_line import Command
from ssd_jax.config.files import define_config, given_config
from ssd_jax.storage.files import write_text
from ssd_jax.storage.outputs import check_outputs

FLAGS = flags.FlagValues()
define_config(values=FLAGS)
SOURCE = flags.DEFINE_string("source", "", "Which objects; by default the training data's.", FLAGS)
IMAGES = flags.DEFINE_integer("images", 2000, "How many images to read at most.", flag_values=FLAGS)
OUTPUT = flags.DEFINE_string("output", None, "The image file to write.", FLAGS)
JSON = flags.DEFINE_string("json", None, "A JSON file to write the numbers to.", FLAGS)


def main(arguments: list[str]) -> None:
    """Flags in, one call, a printed result."""
    del arguments
    from ssd_jax.diagnostics.fit_boxes import fit_boxes
    from ssd_jax.diagnostics.fit_plot import plot
    from ssd_jax.diagnostics.fit_report import format_result, to_json

    check_outputs(OUTPUT.value, JSON.value)
    result = fit_boxes(given_config(FLAGS), SOURCE.value, IMAGES.value)
    if JSON.value:
        write_text(JSON.value, to_json(result))
    if OUTPUT.value:
        plot(result, OUTPUT.value)
    print(format_result(result))


COMMAND = Command(FLAGS, main, required=("config",))
