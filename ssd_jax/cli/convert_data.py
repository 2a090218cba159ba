"""Write any data set in the layout of COCO, Pascal VOC or YOLO, or as shards.

    ssd-jax convert-data --source=my_pictures --to=coco --output=converted

All splits are written, with copies of the image files. Boxes are cleaned as for training.
"""

import shlex

from absl import flags

from ssd_jax.cli.command_line import Command, given
from ssd_jax.config.schema import DataConfig, checked
from ssd_jax.errors import counted

FLAGS = flags.FlagValues()
SOURCE = flags.DEFINE_string("source", None, "The data: see docs/data.md.", FLAGS)
TO = flags.DEFINE_enum("to", None, ["coco", "voc", "yolo", "shards"], "The format to write.", FLAGS)
OUTPUT = flags.DEFINE_string("output", None, "The folder to write, new or empty.", FLAGS)
CLASSES = flags.DEFINE_string(
    "classes", "", "The classes to write, in order, joined by commas; by default all.", FLAGS
)
CLASS_MAP = flags.DEFINE_string(
    "class_map", "", "Renamed, joined and removed classes, as in config.data.class_map.", FLAGS
)


def main(arguments: list[str]) -> None:
    """Runs the command with its flags and prints the result."""
    del arguments
    from ssd_jax.data.convert import convert_data, training_source

    data = checked(DataConfig, {"classes": CLASSES.value, "class_map": CLASS_MAP.value})
    output = given(OUTPUT)
    done = convert_data(given(SOURCE), given(TO), output, data.class_names, data.renamed_classes)
    for split, count in done.images.items():
        print(f"{split}: {counted(count, 'image')}, {counted(done.objects[split], 'object')}")
    print(f"{counted(len(done.class_names), 'class')}: {', '.join(done.class_names)}")
    print(f"train with: ssd-jax train --data={shlex.quote(training_source(done, output))}")


COMMAND = Command(FLAGS, main, required=("source", "to", "output"))
