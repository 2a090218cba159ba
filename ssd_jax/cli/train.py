"""Train a detector on your own images, Pascal VOC or COCO.

    ssd-jax train --data=path/to/dataset
    ssd-jax train --config=quickstart --workdir=runs/quickstart
    ssd-jax train --config=ssd_small --workdir=runs/mine --config.data.train=path/to/dataset

With --data alone, the command inspects the images and the machine, chooses network and settings,
and prints each choice with its reason; --config.FIELD=VALUE sets another value. Started again with
the same work directory, it continues from the last checkpoint. Exit status 75: the run was
interrupted, and the same command continues it.
"""

import itertools
import re
from pathlib import Path

from absl import flags

from ssd_jax.cli.command_line import Command, define_processes, given
from ssd_jax.config.files import (
    config_name,
    define_config,
    given_config,
    given_fields,
)
from ssd_jax.errors import UserError

FLAGS = flags.FlagValues()
DATA = flags.DEFINE_string(
    "data",
    None,
    "The training data: a folder in any supported format, FOLDER:SPLIT, or another source "
    "(docs/data.md). Needs neither --config nor --workdir.",
    FLAGS,
)
define_config(values=FLAGS)
WORKDIR = flags.DEFINE_string(
    "workdir", None, "The work directory: the run writes checkpoints and logs there.", FLAGS
)
CHANGE_CONFIG = flags.DEFINE_boolean(
    "change_config",
    False,
    "Continue the run in the work directory with a changed config. Steps, schedule, batch size, "
    "augmentation, loss and data may differ, but not the network or the optimiser.",
    flag_values=FLAGS,
)
PROCESSES = define_processes(FLAGS)

OWN_IMAGES = "own_images"  # the config where --data is given and --config is not


def defaults(arguments: list[str]) -> list[str]:
    """The flags that --data implies: a config, and a work directory with the folder's name."""
    given = {word.lstrip("-").partition("=")[0] for word in arguments if word.startswith("-")}
    pairs = itertools.pairwise([*arguments, ""])  # --data=FOLDER or --data FOLDER
    folder = [
        word.partition("=")[2] or following
        for word, following in pairs
        if re.fullmatch("--?data(=.+)?", word)
    ]
    if not folder:
        return []
    added = [] if "config" in given else [f"--config={OWN_IMAGES}"]
    if "workdir" not in given:
        added.append(f"--workdir=runs/{_name_of(folder[-1])}")
    return added


INNER = ("train", "images", "data")  # folders inside that of a data set


def _name_of(source: str) -> str:
    """A name for a source: that of its folder, or of the one above a file or a split."""
    if remote := re.search(r'(?:gs|s3):/(/[^:,"]+)', source):
        names = [name for name in remote[1].split("/") if name]
        is_inner = len(names) > 1 and (names[-1] in INNER or "." in names[-1])
        return names[-2] if is_inner else names[-1]
    parts = source.split(",")[0].strip('"').split(":")  # FORMAT:FOLDER:SPLIT
    path = next((Path(part) for part in parts if Path(part).exists()), None)
    if path is None:
        return re.sub(r"[^\w.-]+", "_", source).strip("_") or "own"
    path = path.resolve()
    if path.is_file() or path.name in INNER:
        path = path.parent
    return path.name or "own"


def main(arguments: list[str]) -> None:
    """Runs the command with its flags."""
    del arguments
    from ssd_jax.distributed import devices
    from ssd_jax.runs.train import train

    devices.initialize(**PROCESSES())
    config, fields, chosen = given_config(FLAGS, OWN_IMAGES), given_fields(FLAGS), None
    name = config_name(FLAGS)
    if DATA.value is not None:
        if "data.train" in fields:
            raise UserError("--data and --config.data.train both name the training data: give one")
        evaluation = config.data.eval if "data.eval" in fields else ""
        config = config.replace({"data.train": DATA.value, "data.eval": evaluation})
        chosen = {*fields, "data.train"} if name.partition(":")[0] == OWN_IMAGES else None
    train(
        config,
        given(WORKDIR),
        CHANGE_CONFIG.value,
        chosen,
        chooses_network=chosen is not None and name == OWN_IMAGES,
    )


COMMAND = Command(
    FLAGS, main, required=("config", "workdir"), needs="tensorflow", defaults=defaults
)
