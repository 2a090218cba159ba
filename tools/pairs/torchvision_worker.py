"""Cases of torchvision's SSD as a worker process; needs torch and torchvision alone.

    python -m tools.pairs.torchvision_worker VARIANT

VARIANT is one of those of `tools/torchvision_model.py`. A case has `mode`, `network` (a name of
`tools/torchvision_networks.py`), `batch_size`, and `model` and `detection`, groups of our config.
"""

import functools
import itertools
import sys

import numpy as np
import torch

from tools.pairs.worker import Case, Prepared, serve
from tools.torchvision_model import Model, random_batches
from tools.torchvision_networks import build_network
from tools.torchvision_speed import warm_up


@functools.lru_cache(maxsize=1)
def prepared_model(name: str, variant: str, training: bool, batch_size: int) -> list[Model]:
    """Room for the model of these values; modes of detection share one."""
    return []


def prepare(variant: str, case: Case) -> Prepared:
    """A whole train step, or images to detections, with random weights and images."""
    mode, batch_size = case["mode"], case["batch_size"]
    room = prepared_model(case["network"], variant, mode == "train", batch_size)
    if not room:
        torch.manual_seed(0)
        size = case["model"]["image_size"]
        batches = random_batches(batch_size, np.random.default_rng(0), size)
        network = build_network(case["network"], case["model"], case["detection"])
        room.append(Model(network, "float32", variant, mode == "train", batches))
    (model,) = room
    if mode == "predict_few":
        model.make_few()
    step = model.train if mode == "train" else model.predict
    if variant in ("parts", "whole"):
        warm_up(step)
    about = {"parameters": sum(array.numel() for array in model.model.parameters())}
    if mode != "train":
        about["candidates"] = round(model.candidates())
    turns = itertools.count()
    return lambda: step(next(turns)), about


if __name__ == "__main__":
    serve(functools.partial(prepare, sys.argv[1]))
