"""Draw training images with boxes: each image file next to the augmented network input.

    ssd-jax show-data --config=quickstart --output=training_images.png

Wrong annotations become visible.
"""

from absl import flags

from ssd_jax.cli.command_line import Command, given
from ssd_jax.config.files import define_config, given_config

FLAGS = flags.FlagValues()
define_config(values=FLAGS)
OUTPUT = flags.DEFINE_string("output", None, "The image file to write.", FLAGS)
IMAGES = flags.DEFINE_integer("images", 12, "The number of images.", flag_values=FLAGS)


def main(arguments: list[str]) -> None:
    """Runs the command with its flags and prints the result."""
    del arguments
    from ssd_jax.diagnostics.show_data import show_training_images

    show_training_images(given_config(FLAGS), given(OUTPUT), IMAGES.value)
    print(f"{IMAGES.value} training images are in {OUTPUT.value}")


COMMAND = Command(FLAGS, main, required=("config", "output"))
