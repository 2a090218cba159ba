"""Measures cases of the `ssd_jax` of this or another source tree, in a worker process.

    python -m tools.pairs.ours ROOT

The measuring code is from this tree, the measured code from ROOT. `mode` of a case selects the
function that prepares it, which documents the other fields.
"""

import functools
import importlib.util
import itertools
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from tools.pairs.networks import prepare_network
from tools.pairs.worker import Case, Prepared, serve

FOLDER = tempfile.TemporaryDirectory()  # outputs of cases; it exists as long as the process


def prepare(root: Path, case: Case) -> Prepared:
    """The function to measure in a case."""
    functions = {"start": prepare_start, "input": prepare_input, "metrics": prepare_metrics}
    return functions.get(case["mode"], prepare_network)(root, case)


def prepare_start(root: Path, case: Case) -> Prepared:
    """A command from the start of its process to its end, with a cache between runs.

    Args:
      root: the source tree of the command.
      case: `command`, "help" or "predict": detection in one image, by `config` with random weights.
    """
    folder = Path(FOLDER.name)
    arguments = ["--help"]
    if case["command"] == "predict":
        _write_detector(root, case["config"], folder)
        arguments = ["predict", f"--weights={folder}/detector", str(folder / "image.png")]
    environment = os.environ | {"XDG_CACHE_HOME": f"{folder}/cache", "PYTHONPATH": str(root)}
    for name in ("JAX_COMPILATION_CACHE_DIR", "GLIBC_TUNABLES"):  # set by the command itself
        environment.pop(name, None)
    numbers = itertools.count()

    def start() -> None:
        command = [sys.executable, "-m", "ssd_jax", *arguments]
        if len(arguments) > 1:
            command.append(f"--output={folder}/output{next(numbers)}")
        options = {"cwd": folder, "env": environment, "text": True}
        done = subprocess.run(command, capture_output=True, check=False, **options)
        if done.returncode:
            raise RuntimeError(done.stderr.strip().splitlines()[-1])

    return start, {}


def _write_detector(root: Path, config_name: str, folder: Path) -> None:
    """Writes an exported detector with random weights, and an image."""
    import numpy as np
    from PIL import Image

    from ssd_jax.config.files import load_config
    from ssd_jax.interop.trained import Trained, save_folder
    from ssd_jax.models.network import build_network

    config = load_config(f"{root}/configs/{config_name}.py")
    network = build_network(config.model, 1)
    trained = Trained(network, network.init(0), ("thing",), (1,), config)
    save_folder(trained, folder / "detector")
    pixels = np.random.default_rng(0).integers(0, 256, (375, 500, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(folder / "image.png")


def prepare_input(root: Path, case: Case) -> Prepared:
    """Batches of the input pipeline, which prefetches.

    Args:
      root: the tree.
      case: `config`; `images`, their number; and `batches` of a run.
    """
    from ssd_jax.benchmark.voc_like import write_voc_like
    from ssd_jax.config.files import load_config
    from ssd_jax.data.sources import open_dataset
    from ssd_jax.data.training_batches import training_batches

    config = load_config(f"{root}/configs/{case['config']}.py")
    dataset = open_dataset(write_voc_like(Path(FOLDER.name) / "images", case["images"]))
    batches = training_batches(config, dataset, config.batch_size)

    def take() -> None:
        for _ in range(case["batches"]):
            next(batches)

    return take, {"works_ahead": True}


def prepare_metrics(root: Path, case: Case) -> Prepared:
    """COCO's twelve numbers of random detections.

    Args:
      root: the tree.
      case: `images`, and `detections` of each.
    """
    from ssd_jax.evaluation.summary import summarise
    from tools.metric_speed import NUM_CLASSES, random_results

    results = random_results(case["images"], NUM_CLASSES, case["detections"])
    names = [str(label) for label in range(1, NUM_CLASSES + 1)]
    return lambda: summarise(results, names, ["coco"]), {}


def main() -> None:
    """Answers requests; see `tools/pairs/worker.py`."""
    root = Path(sys.argv[1]).resolve()
    sys.path.insert(0, str(root))
    package = importlib.util.find_spec("ssd_jax")
    if package is None or not Path(str(package.origin)).is_relative_to(root):
        sys.exit(f"{root} has no package ssd_jax")
    serve(functools.partial(prepare, root))


if __name__ == "__main__":
    main()
