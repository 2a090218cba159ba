"""Creates a work directory and an exported folder with random weights, in a second."""

import functools
import json
import shutil
import tempfile
from pathlib import Path

import jax
import optax

from ssd_jax.config.files import load_config
from ssd_jax.data.cut import Cut, write_cut
from ssd_jax.distributed import devices
from ssd_jax.interop.trained import save_folder
from ssd_jax.models.network import build_network
from ssd_jax.runs import workdir
from ssd_jax.runs.provenance import describe_program
from ssd_jax.runs.trained import load_workdir
from ssd_jax.storage.files import write_json
from ssd_jax.training.checkpoints import Checkpoints, Progress
from ssd_jax.training.state import TrainState, initial_state

TINY = Path(__file__).parents[1] / "tests" / "tiny.py"  # a config of seconds
NAMES = ("circle", "cross", "square", "star", "triangle")
PROGRESS = Progress(values=[{"loss": 0.25, "gradient_norm": 2.0}], dropped=3)


@functools.cache
def _folder() -> tempfile.TemporaryDirectory[str]:
    """The folder in which both are created, once per process."""
    folder = tempfile.TemporaryDirectory(ignore_cleanup_errors=True)
    place = Path(folder.name) / "run"
    config = load_config(str(TINY))
    workdir.record_run(place, config, NAMES, range(1, 6))
    workdir.record_start(place, describe_program())
    write_cut(place, Cut(("shapes:test",), (("test_00001", "test_00003"),)))
    lines = [{"step": step, "train/loss": 1 / step, "eval/mAP": 0.5} for step in (1, 2)]
    (place / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    checkpoints = Checkpoints(place / "checkpoints")
    for step in (1, 2):
        checkpoints.save(devices.replicate(state_of_step(step)), PROGRESS)
    checkpoints.close()
    trained = load_workdir(place)
    write_json(place / "imported.json", sorted(trained.network.variable_shapes()[0]))
    save_folder(trained, Path(folder.name) / "export")
    return folder


def state_of_step(step: int) -> TrainState:
    """The content of the checkpoint of a step."""
    network = build_network(load_config(str(TINY)).model, len(NAMES))
    state = initial_state(*network.init(seed=step), optax.identity())
    return state._replace(step=jax.numpy.int32(step))


def copy_run(folder: Path) -> Path:
    """Creates a separate work directory with the checkpoints of steps 1 and 2."""
    return Path(shutil.copytree(Path(_folder().name) / "run", folder / "run"))


def copy_export(folder: Path) -> Path:
    """Creates a separate exported folder."""
    return Path(shutil.copytree(Path(_folder().name) / "export", folder / "export"))
