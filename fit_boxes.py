"""Shows how the default boxes of a config fit the objects of a data source; proposes better ones.

    python fit_boxes.py --config=configs/quickstart.py --output=boxes.png

Prints recall by size and the line that a config needs for the proposed boxes.
"""

from absl import flags

from ssd_jax.cli import command_line, console
from ssd_jax.diagnostics import fit_boxes
from ssd_jax.storage.files import local_path, write_text

CONFIG = command_line.define_config()
SOURCE = flags.DEFINE_string("source", "", "Which objects; by default the training data's.")
IMAGES = flags.DEFINE_integer("images", 2000, "How many images to read at most.")
OUTPUT = flags.DEFINE_string("output", None, "The picture file to write.")
JSON = flags.DEFINE_string("json", None, "A JSON file to write the numbers to.")


def main(argv: list[str]) -> None:
    """Flags in, one call, a printed result."""
    del argv
    with console.session():
        for place in (OUTPUT.value, JSON.value):
            local_path(place or "")
        result = fit_boxes.fit_boxes(CONFIG.value, SOURCE.value, IMAGES.value)
        print(fit_boxes.format_result(result))
        if OUTPUT.value:
            fit_boxes.plot(result, OUTPUT.value)
        if JSON.value:
            write_text(JSON.value, fit_boxes.to_json(result))


if __name__ == "__main__":
    command_line.run(main, required=["config"])
