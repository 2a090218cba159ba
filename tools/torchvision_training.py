"""Trains an SSD of torchvision by a task file, and detects; needs only torch and torchvision.

    python -m tools.torchvision_training FOLDER

FOLDER has `task.json` and `weights.npz`, as `tools/compare_torchvision_training.py` writes them.
Matching, mining, loss, transforms, resizing and suppression are torchvision's. Writes
`losses.jsonl`, with a line every fifty steps, and `detections.json` in the format of COCO's
results.
"""

import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import nn
from torchvision import tv_tensors
from torchvision.models.detection.ssd import SSD
from torchvision.transforms import v2

from tools.torchvision_networks import build_network

LOG_EVERY = 50
MEAN = [123.0, 117.0, 104.0]
# The augmentations of torchvision's detection references, by their names there.
PRESETS: dict[str, list[nn.Module]] = {
    "ssd": [v2.RandomPhotometricDistort(), v2.RandomZoomOut(fill=MEAN), v2.RandomIoUCrop()],
    "ssdlite": [v2.RandomIoUCrop()],
    "hflip": [],
}

Task = dict[str, Any]
Target = dict[str, torch.Tensor]


def read_image(file: str) -> tv_tensors.Image:
    """The pixels of a file, upright."""
    with Image.open(file) as image:
        return tv_tensors.Image(v2.functional.pil_to_tensor(upright(image)))


def upright(image: Image.Image) -> Image.Image:
    """The upright image in RGB."""
    return ImageOps.exif_transpose(image).convert("RGB")


def batches(task: Task) -> Iterator[tuple[list[torch.Tensor], list[Target]]]:
    """An endless iterator of augmented batches; every image once in each epoch."""
    augment = v2.Compose(
        [
            *PRESETS[task["preset"]],
            v2.RandomHorizontalFlip(0.5),
            v2.ToDtype(torch.float32, scale=True),
            v2.SanitizeBoundingBoxes(),
            v2.ToPureTensor(),
        ]
    )

    def examples() -> Iterator[tuple[torch.Tensor, Target]]:
        while True:
            for index in torch.randperm(len(task["train"])).tolist():
                entry = task["train"][index]
                image = read_image(entry["file"])
                boxes = torch.tensor(entry["boxes"], dtype=torch.float32).reshape(-1, 4)
                target = {
                    "boxes": tv_tensors.BoundingBoxes(
                        boxes, format="XYXY", canvas_size=image.shape[-2:]
                    ),
                    "labels": torch.tensor(entry["labels"], dtype=torch.int64),
                }
                yield augment(image, target)

    of_all = examples()
    while True:
        images, targets = zip(*(next(of_all) for _ in range(task["batch_size"])), strict=True)
        yield list(images), list(targets)


def load_weights(model: SSD, file: Path) -> None:
    """Loads all weights of the network."""
    with np.load(file) as arrays:
        weights = {name: torch.from_numpy(arrays[name]) for name in arrays.files}
    missing, unknown = model.load_state_dict(weights, strict=False)
    missing = [name for name in missing if not name.endswith("num_batches_tracked")]
    if missing or unknown:
        sys.exit(f"missing weights: {missing[:3]}; weights that the network lacks: {unknown[:3]}")


def train(model: SSD, task: Task, log: Path) -> None:
    """Trains with Adam, at the rates that the task has for each step."""
    optimizer = torch.optim.AdamW(model.parameters(), weight_decay=task["weight_decay"])
    model.train()
    of_all = batches(task)
    with log.open("w") as lines:
        for step, rate in enumerate(task["rates"], start=1):
            for group in optimizer.param_groups:
                group["lr"] = rate
            losses = model(*next(of_all))
            loss = torch.stack(list(losses.values())).sum()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            if step % LOG_EVERY == 0 or step == 1:
                lines.write(json.dumps({"step": step, "loss": loss.item()}) + "\n")
                lines.flush()


@torch.inference_mode()
def detections(model: SSD, task: Task) -> list[dict[str, Any]]:
    """The detections of the model in the evaluation images."""
    model.eval()
    entries = []
    for entry in task["evaluation"]:
        (found,) = model([read_image(entry["file"]).float() / 255])
        for box, label, score in zip(
            found["boxes"].tolist(),
            found["labels"].tolist(),
            found["scores"].tolist(),
            strict=True,
        ):
            x_min, y_min, x_max, y_max = box
            entries.append(
                {
                    "image_id": entry["image_id"],
                    "category_id": task["category_ids"][label - 1],
                    "bbox": [x_min, y_min, x_max - x_min, y_max - y_min],
                    "score": score,
                }
            )
    return entries


def main() -> None:
    """Runs the task of a folder."""
    folder = Path(sys.argv[1])
    task = json.loads((folder / "task.json").read_text())
    torch.set_num_threads(len(os.sched_getaffinity(0)))
    torch.manual_seed(task["seed"])
    num_classes = len(task["category_ids"]) + 1
    model = build_network("ssdlite320", task["model"], task["detection"], num_classes)
    load_weights(model, folder / "weights.npz")
    train(model, task, folder / "losses.jsonl")
    found = detections(model, task)
    (folder / "detections.json").write_text(json.dumps(found))


if __name__ == "__main__":
    main()
