"""Train a detector.

    ssd-jax train --config=quickstart --workdir=runs/quickstart
    ssd-jax train --config=ssd_small --workdir=runs/mine --config.data.train=path/to/dataset

Started again with the same work directory it continues. Exit status 75 means that it was stopped
and the same command continues.
"""

from absl import flags

from ssd_jax.cli.command_line import Command, define_processes, given
from ssd_jax.config.files import define_config, given_config

FLAGS = flags.FlagValues()
define_config(values=FLAGS)
WORKDIR = flags.DEFINE_string("workdir", None, "Where the run keeps everything it writes.", FLAGS)
CHANGE_CONFIG = flags.DEFINE_boolean(
    "change_config",
    False,
    "Continue with another config than the run in the work directory has.",
    flag_values=FLAGS,
)
PROCESSES = define_processes(FLAGS)


def main(arguments: list[str]) -> None:
    """Flags in, one call."""
    del arguments
    from ssd_jax.distributed import devices
    from ssd_jax.runs.train import train

    devices.initialize(**PROCESSES())
    train(given_config(FLAGS), given(WORKDIR), CHANGE_CONFIG.value)


COMMAND = Command(FLAGS, main, required=("config", "workdir"), needs="tensorflow")
