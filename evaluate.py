"""Evaluates a trained SSD: AP of each class and mAP, by both rules of Pascal VOC.

python evaluate.py --config=configs/quickstart.py --workdir=runs/quickstart
"""

from absl import app, flags
from ml_collections import config_flags

from ssd_jax import console, experiment, parallel

CONFIG = config_flags.DEFINE_config_file("config", None, "The config file.", lock_config=True)
WORKDIR = flags.DEFINE_string("workdir", None, "The work directory of the run.")
CHECKPOINT = flags.DEFINE_integer("checkpoint", None, "The step to evaluate; by default the last.")
OUTPUT = flags.DEFINE_string("output", None, "A JSON file to write the numbers to.")
COORDINATOR = flags.DEFINE_string("coordinator", "", "host:port of process 0, for several hosts.")
NUM_PROCESSES = flags.DEFINE_integer("num_processes", 0, "How many processes; 0 asks the cluster.")
PROCESS_ID = flags.DEFINE_integer("process_id", -1, "Which one this is; -1 asks the cluster.")


def main(argv: list[str]) -> None:
    """Flags in, one call, a printed result."""
    del argv
    with console.session():
        parallel.initialize(COORDINATOR.value, NUM_PROCESSES.value, PROCESS_ID.value)
        experiment.evaluate(CONFIG.value, WORKDIR.value, CHECKPOINT.value, OUTPUT.value)


if __name__ == "__main__":
    flags.mark_flags_as_required(["config", "workdir"])
    app.run(main)
