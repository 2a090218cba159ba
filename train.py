"""Trains an SSD.

    python train.py --config=configs/quickstart.py --workdir=runs/quickstart

Started again with the same work directory it continues. Every field of the config can be set on
the command line: --config.batch_size=8.
"""

from absl import flags

from ssd_jax.cli import command_line, console
from ssd_jax.distributed import devices
from ssd_jax.runs.train import train

CONFIG = command_line.define_config()
WORKDIR = flags.DEFINE_string("workdir", None, "Where the run keeps everything it writes.")
CHANGE_CONFIG = flags.DEFINE_boolean(
    "change_config", False, "Go on with another config than the run in the work directory has."
)
PROCESSES = command_line.define_processes()


def main(argv: list[str]) -> None:
    """Flags in, one call."""
    del argv
    with console.session():
        devices.initialize(**PROCESSES())
        train(CONFIG.value, WORKDIR.value, CHANGE_CONFIG.value)


if __name__ == "__main__":
    command_line.run(main, required=["config", "workdir"])
