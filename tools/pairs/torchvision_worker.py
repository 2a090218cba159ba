"""Measures cases of torchvision's SSD in a worker process; needs only torch and torchvision.

    python -m tools.pairs.torchvision_worker VARIANT

VARIANT is one of those of `tools/torchvision_model.py`. A case has `mode`, `network` (a name of
`tools/torchvision_networks.py`), `batch_size`, and `model` and `detection`, groups of our config.
"""

import functools
import itertools
import json
import sys

import numpy as np
import torch

from tools.pairs.worker import Case, Prepared, serve
from tools.torchvision_model import Model, random_batches
from tools.torchvision_networks import build_network
from tools.torchvision_speed import warm_up


@functools.lru_cache(maxsize=1)
def prepared_model(variant: str, training: bool, values: str) -> Model:
    """The model of a case in JSON, without `mode`; the modes of detection share one."""
    case = json.loads(values)
    torch.manual_seed(0)
    size = case["model"]["image_size"]
    batches = random_batches(case["batch_size"], np.random.default_rng(0), size)
    network = build_network(case["network"], case["model"], case["detection"])
    return Model(network, "float32", variant, training, batches)


def prepare(variant: str, case: Case) -> Prepared:
    """A whole train step, or images to detections, with random weights and images."""
    mode = case["mode"]
    values = json.dumps({name: value for name, value in case.items() if name != "mode"})
    model = prepared_model(variant, mode == "train", values)
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
