"""Compares the mAP of short trainings, ours and torchvision's, at the same budget.

    python -m tools.compare_torchvision_training --python=OTHER/bin/python \\
        --folder=runs/torchvision --init=torchvision:FILE --steps=300,900 --seeds=0,1 \\
        --data BCCD voc_xml:BCCD:trainval voc_xml:BCCD:test

OTHER has torch and torchvision. Both sides train the same network, SSDLite with MobileNetV2, from
the same weights, on the same images, with the same default boxes, batch size, steps, input size,
optimiser and learning rates. The metric is our VOC2007 mAP. Matching, mining, loss, resizing and
augmentation are each side's own: once with its defaults, once with the settings that both have.

Results are kept, and the work is divided, as in `tools/experiments.py`.
"""

import argparse
import json
import os
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ssd_jax.config.files import load_config
from ssd_jax.config.schema import Config, DataConfig
from ssd_jax.data.choice import RunData, open_run_data
from ssd_jax.data.datasets import Dataset
from ssd_jax.data.evaluation_batches import read_objects
from ssd_jax.interop.pytorch_layouts import (
    Layout,
    torchvision_mobilenet_v2_layout,
    torchvision_ssdlite_layout,
)
from ssd_jax.interop.renaming import to_pytorch
from ssd_jax.models.mobilenet_v2 import FINE_BLOCKS
from ssd_jax.models.network import build_network
from ssd_jax.runs.evaluate import EvaluationOptions, evaluate_file
from ssd_jax.runs.initial_weights import start_weights
from ssd_jax.training.optimizer import make_schedule
from tools.experiments import arguments, fields_of_trial, run_command, stop_if_stopped, trained
from tools.trials import Row, Trial, add_options, chosen_trials, run_and_print

PLAIN = ["augment.color=false", "augment.expand_probability=0.0"]
# Changes of our config.
OURS = {
    "ours, the paper's": ["augment.color=true", "augment.expand_max_ratio=4.0"],
    "ours, --data": ["planned"],
    "ours, crop and mirror": PLAIN,
    "ours, mirror": [*PLAIN, "augment.crop=false"],
}
# Presets of torchvision's references.
THEIRS = {
    "torchvision's, ssd": "ssd",
    "torchvision's, crop and mirror (ssdlite)": "ssdlite",
    "torchvision's, mirror (hflip)": "hflip",
}
# The variant with which each variant is compared.
VARIANTS = {
    "torchvision's, ssd": "torchvision's, ssd",
    "ours, the paper's": "torchvision's, ssd",
    "ours, --data": "torchvision's, ssd",
    "torchvision's, crop and mirror (ssdlite)": "torchvision's, crop and mirror (ssdlite)",
    "ours, crop and mirror": "torchvision's, crop and mirror (ssdlite)",
    "torchvision's, mirror (hflip)": "torchvision's, mirror (hflip)",
    "ours, mirror": "torchvision's, mirror (hflip)",
}


def torchvision_layout(num_maps: int, num_extras: int) -> Layout:
    """The names in `tools/torchvision_networks.py` of the arrays of SSDLite with MobileNetV2.

    Args:
      num_maps: of the network.
      num_extras: the number of maps from the extra layers.
    """
    num_fine = num_maps - num_extras - 1
    cuts = [block + 1 for block in FINE_BLOCKS.values()][-num_fine:]
    names = {}
    for ours, theirs in torchvision_mobilenet_v2_layout().names.items():
        _, number, *rest = theirs.split(".")
        layer = int(number)
        # The first layer of a split block belongs to the stage before.
        is_before = layer in cuts and rest[1] == "0"
        if layer in cuts:
            rest = rest[2:] if is_before else rest[1:]
        stage = sum(layer > cut or (layer == cut and not is_before) for cut in cuts)
        place = layer - cuts[stage - 1] if stage else layer
        names[ours] = ".".join(["backbone.stages", str(stage), str(place), *rest])
    for ours, theirs in torchvision_ssdlite_layout().names.items():
        group, _, rest = theirs.partition(".extra.")
        if rest:
            number, _, rest = rest.partition(".")
            names[ours] = f"{group}.stages.{int(number) + num_fine + 1}.{rest}"
        elif ours.startswith(("heads.offsets.0.", "heads.logits.0.")):
            for i in range(num_maps):
                names[ours.replace(".0.", f".{i}.", 1)] = theirs.replace(".0.", f".{i}.", 1)
    return Layout(names)


def write_task(config: Config, preset: str, data: RunData, place: Path) -> None:
    """Writes the files that `tools/torchvision_training.py` reads.

    Args:
      config: of our training with the same network.
      preset: of torchvision's augmentation.
      data: the images.
      place: a folder.
    """
    assert data.evaluation is not None and not config.no_weight_decay
    classes = data.train.class_names
    network = build_network(config.model, len(classes))
    weights = start_weights(config, network, data.train).variables
    boxes_per_cell = network.tiling.boxes_per_cell
    layout = torchvision_layout(len(boxes_per_cell), len(config.model.extra_blocks))
    tensors = to_pytorch(weights, layout, boxes_per_cell)
    np.savez(place / "weights.npz", **tensors)  # pyright: ignore[reportArgumentType]
    rates = make_schedule(config)(np.arange(config.steps))
    task = {
        "seed": config.seed,
        "preset": preset,
        "batch_size": config.batch_size,
        "rates": np.asarray(rates).tolist(),
        "weight_decay": config.weight_decay,
        "model": config.model.model_dump(),
        "detection": config.detection.model_dump(),
        "category_ids": data.evaluation.category_ids,
        "train": entries(data.train),
        "evaluation": entries(data.evaluation),
    }
    (place / "task.json").write_text(json.dumps(task))


def entries(dataset: Dataset) -> list[dict[str, Any]]:
    """Files, boxes in pixels and labels of the images; crowds are left out."""
    found = []
    for record, (height, width) in read_objects(dataset):
        if not record.path:
            sys.exit(f"error: {record.image_id} has no image file: use another data set")
        boxes = record.boxes[~record.crowd] * (width, height, width, height)
        found.append(
            {
                "image_id": record.image_id,
                "file": os.path.abspath(record.path),
                "boxes": boxes.tolist(),
                "labels": record.labels[~record.crowd].tolist(),
            }
        )
    return found


def trained_by_torchvision(
    words: Sequence[str], preset: str, python: str, place: Path
) -> Row | None:
    """Trains torchvision's side, detects, and measures mAP.

    Args:
      words: arguments of our training with the same network.
      preset: of torchvision's augmentation.
      python: the interpreter with torchvision.
      place: a folder, which is removed at the end.

    Returns:
      See `trained`.
    """
    config = load_config("own_images:cpu", [word for word in words if word.startswith("--config.")])
    place.mkdir(exist_ok=True)
    data = open_run_data(config)
    write_task(config, preset, data, place)
    log = place.with_name(f"{place.name}.log")
    with log.open("a") as output:
        program = [python, "-m", "tools.torchvision_training", str(place)]
        status, cpu_seconds = run_command(program, output, {"OMP_WAIT_POLICY": "PASSIVE"})
    stop_if_stopped(status)
    if status:
        print(f"{place.name} failed: see {log}", flush=True)
        return None
    names = ",".join(f'"{name}"' for name in data.train.class_names)
    summary = evaluate_file(
        DataConfig(eval=config.data.eval, classes=names),
        place / "detections.json",
        EvaluationOptions(metrics=(config.metric,)),
    )
    losses = (place / "losses.jsonl").read_text()
    shutil.rmtree(place)
    print(f"{place.name}: mAP {summary['mAP']}, {cpu_seconds:.0f} CPU s", flush=True)
    return {
        "mAP": summary["mAP"],
        "losses": {line["step"]: line["loss"] for line in map(json.loads, losses.splitlines())},
        "cpu_seconds": round(cpu_seconds, 1),
        "arguments": [*words, preset],
    }


def main() -> None:
    """Runs the trainings that are not finished yet, and prints the table."""
    parser = argparse.ArgumentParser(description="mAP of short trainings, ours and torchvision's.")
    parser.add_argument("--python", required=True, help="an interpreter with torchvision")
    add_options(parser)
    options = parser.parse_args()
    sources = {name: pair for name, *pair in options.data}
    words = {}
    for trial in chosen_trials(options, VARIANTS):
        fields = fields_of_trial(trial, sources[trial.data], options.init)
        words[trial] = arguments(fields, OURS.get(trial.variant, []))

    def run(trial: Trial, place: Path) -> Row | None:
        if trial.variant in OURS:
            return trained(words[trial], place)
        preset = THEIRS[trial.variant]
        return trained_by_torchvision(words[trial], preset, options.python, place)

    every = {
        trial: [*words[trial], THEIRS[trial.variant]] if trial.variant in THEIRS else words[trial]
        for trial in words
    }
    run_and_print(options, every, VARIANTS, run)


if __name__ == "__main__":
    main()
