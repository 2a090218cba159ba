"""Computes `forward_torchvision_ssdlite320_mobilenet_v3_coco.*`; needs torch and torchvision.

python tests/reference/make_ssdlite.py
"""

import json
import re
from pathlib import Path

import numpy as np
import torch
import torchvision
from torchvision.models.detection import ssdlite320_mobilenet_v3_large
from torchvision.models.detection.image_list import ImageList

HERE = Path(__file__).parent
NAME = "forward_torchvision_ssdlite320_mobilenet_v3_coco"
SEED, SIZE = 5, 320
NUM_ROWS = 3234  # default boxes


def init_of(name: str, shape: tuple[int, ...]) -> str:
    """The random recipe of a tensor: convolutions, then the four of batch norm."""
    if len(shape) == 4:
        return "normal*sqrt(2/fan_in)"
    if name.endswith("running_var"):
        return "uniform(0.5,1.1)"
    if name.endswith("running_mean"):
        return "normal*0.1"
    return "normal*0.05" if name.endswith("bias") else "uniform(0.5,1.1)"


def draw(init: str, shape: tuple[int, ...], random: np.random.Generator) -> np.ndarray:
    if init.startswith("uniform"):
        return random.uniform(*map(float, re.findall(r"[\d.]+", init)), shape)
    normal = random.standard_normal(shape)
    if init == "normal*sqrt(2/fan_in)":
        return normal * np.sqrt(2 / np.prod(shape[1:]))
    return normal * float(init.removeprefix("normal*"))


def main() -> None:
    torch.manual_seed(0)
    model = ssdlite320_mobilenet_v3_large(weights=None, weights_backbone=None).eval()
    state, described = model.state_dict(), []
    for index, (name, tensor) in enumerate(state.items()):
        if name.endswith("num_batches_tracked"):
            continue
        shape = tuple(tensor.shape)
        init = init_of(name, shape)
        values = draw(init, shape, np.random.default_rng([SEED, index])).astype(np.float32)
        state[name] = torch.from_numpy(values)
        described.append({"index": index, "name": name, "shape": shape, "init": init})
    model.load_state_dict(state)
    model.double()  # float32 would round by as much as what is compared with it

    image = np.random.default_rng([SEED, 999999]).standard_normal((1, SIZE, SIZE, 3))
    images = torch.from_numpy(image.transpose(0, 3, 1, 2).astype(np.float32)).double()
    with torch.no_grad():
        features = list(model.backbone(images).values())
        outputs = model.head(features)
        (anchors,) = model.anchor_generator(ImageList(images, [(SIZE, SIZE)]), features)
    assert anchors.shape == (NUM_ROWS, 4)
    # A prime stride meets every kind of box of a cell, and the last 40 all of the coarsest maps.
    rows = np.union1d(np.arange(0, NUM_ROWS, 41), np.arange(NUM_ROWS - 40, NUM_ROWS))
    np.savez_compressed(
        HERE / f"{NAME}.npz",
        rows=rows,
        offsets=outputs["bbox_regression"][:, rows].float().numpy(),
        logits=outputs["cls_logits"][:, rows].float().numpy(),
        xyxy_pixels=anchors[rows].float().numpy(),
    )
    version = torchvision.__version__.partition("+")[0]
    content = {
        "source": f"torchvision {version} ssdlite320_mobilenet_v3_large, 91 classes; backbone+head "
        "outputs bbox_regression, cls_logits before softmax; anchors in torchvision order",
        "seed": SEED,
        "input_size": SIZE,
    }
    lines = ",\n".join(map(json.dumps, described))
    text = json.dumps(content).removesuffix("}") + f', "tensors": [\n{lines}\n]}}\n'
    (HERE / f"{NAME}.json").write_text(text)
    spread = [float(outputs[key].std()) for key in ("bbox_regression", "cls_logits")]
    print(f"standard deviations of offsets and logits: {spread}")


if __name__ == "__main__":
    main()
