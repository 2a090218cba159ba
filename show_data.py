"""Draws training images as the network gets them, each beside its file, with boxes.

    python show_data.py --config=configs/quickstart.py --output=training_images.png

What is wrong in the annotations shows here.
"""

from absl import flags

from ssd_jax.cli import command_line, console
from ssd_jax.diagnostics import show_data

CONFIG = command_line.define_config()
OUTPUT = flags.DEFINE_string("output", None, "The picture file to write.")
IMAGES = flags.DEFINE_integer("images", 12, "How many training images.")


def main(argv: list[str]) -> None:
    """Flags in, one call, a printed result."""
    del argv
    with console.session():
        show_data.show_training_images(CONFIG.value, OUTPUT.value, IMAGES.value)
        print(f"{IMAGES.value} training images are in {OUTPUT.value}")


if __name__ == "__main__":
    command_line.run(main, required=["config", "output"])
