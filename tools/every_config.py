"""Checks every config: builds it, trains one step and evaluates, at its real input size.

    python -m tools.every_config --train=voc_xml:FOLDER:trainval --eval=voc_xml:FOLDER:test

Takes about half a minute per config on two CPU cores. It evaluates the whole second source, so
name a small one. `--only=NAME,NAME` selects configs.
"""

import json
import tempfile
import time
from pathlib import Path

from absl import app, flags

from ssd_jax.config.files import load_config, shipped_configs
from ssd_jax.distributed import devices
from ssd_jax.models.network import build_network
from ssd_jax.runs.train import train

TRAIN = flags.DEFINE_string("train", "shapes:train", "Source of the training images.")
EVAL = flags.DEFINE_string("eval", "shapes:test[:2]", "Source of the images to evaluate.")
ONLY = flags.DEFINE_list("only", None, "Names of the configs; by default all.")
BATCH_SIZE = flags.DEFINE_integer("batch_size", 2, "Images a step.")


def train_and_evaluate(name: str, source: str, evaluation: str, batch_size: int) -> dict:
    """Trains one step and evaluates; returns the line of metrics and the network.

    Only the data, the batch size, the length of the run, the start weights and the missing report
    differ from the config.
    """
    once = {
        "batch_size": batch_size,
        "steps": 1,
        "log_every": 1,
        "eval_every": 0,
        "init": "",
        "report": False,
    }
    data = {"data.train": source, "data.eval": evaluation}
    config = load_config(name).replace(once | data)
    with tempfile.TemporaryDirectory() as folder:
        train(config, folder)
        lines = (Path(folder) / "metrics.jsonl").read_text().splitlines()
        classes = json.loads((Path(folder) / "classes.json").read_text())
        assert list(Path(folder).glob("pictures/detections_*.png"))
    network = build_network(config.model, len(classes))
    metrics = {key: value for line in lines for key, value in json.loads(line).items()}
    return metrics | {
        "image_size": config.model.image_size,
        "boxes": network.tiling.num_boxes,
        "classes": len(classes),
    }


def main(argv: list[str]) -> None:
    """Prints a line for each config."""
    del argv
    devices.initialize()
    print(f"{'config':<36}{'pixels':>7}{'boxes':>8}{'classes':>9}{'loss':>9}{'seconds':>9}")
    for name in ONLY.value or shipped_configs():
        started = time.perf_counter()
        result = train_and_evaluate(name, TRAIN.value, EVAL.value, BATCH_SIZE.value)
        assert 0 < result["train/loss"] < 1e3 and 0 <= result["eval/mAP"] <= 1, result
        print(
            f"{name:<36}{result['image_size']:>7}{result['boxes']:>8,}{result['classes']:>9}"
            f"{result['train/loss']:>9.2f}{time.perf_counter() - started:>9.0f}",
            flush=True,
        )


if __name__ == "__main__":
    app.run(main)
