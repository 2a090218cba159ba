"""Exports torchvision's SSDLite320 with MobileNetV3-Large to files, with PyTorch's exporters.

    python -m tools.pairs.torchvision_export FOLDER

Needs torch, torchvision and, for TFLite, litert-torch; nothing of `ssd_jax`. FOLDER has
`weights.npz`, a state dict, and `case.json`: `num_classes` with the background, `detection`, a
group of our config, and `batch_sizes`. It writes `network.onnx`, by `torch.onnx.export` without
changes, for any number of images; `network_pixels.onnx`, which also normalises pixels, like ours;
`network_script.onnx` and `detector_BATCH.onnx`, by its earlier exporter, the only one that supports
suppression; and `network_BATCH.tflite`. `failed.json` has the errors of missing files. Existing
files are kept.
"""

import json
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torchvision
from torch import nn

from tools.torchvision_networks import thresholds_of

SIDE = 320
OPSET = 17  # of the earlier exporter, equal to ours; the other one chooses its version
NAMES = ["offsets", "logits"]
FILE = object()  # replaced by the name of the file


class Network(nn.Module):
    """Backbone and head: from normalised `[batch, 3, size, size]` to offsets and logits."""

    def __init__(self, detector: Any) -> None:
        super().__init__()
        self.backbone, self.head = detector.backbone, detector.head

    def forward(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        found = self.head(list(self.backbone(images).values()))
        return found["bbox_regression"], found["cls_logits"]


class FromPixels(Network):
    """The same from `[batch, size, size, 3]` uint8."""

    def forward(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return super().forward((images.permute(0, 3, 1, 2).float() - 127.5) / 127.5)


class Files:
    """The written files of a folder, and the errors of others."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.failed = folder, {}

    def write(
        self, name: str, write: Callable[..., object], *arguments: Any, **options: Any
    ) -> None:
        """Calls a function with the name of the file, unless the file exists."""
        file = self.folder / name
        if file.exists():
            return
        try:
            write(*[str(file) if each is FILE else each for each in arguments], **options)
        except Exception as error:
            lines = str(error).strip().splitlines() or [""]
            self.failed[name] = f"{type(error).__name__}: {lines[0]}"[:200]


def main() -> None:
    """Writes the files of a case."""
    warnings.filterwarnings("ignore")
    folder = Path(sys.argv[1])
    case = json.loads((folder / "case.json").read_text())
    detector = load_detector(folder, case)
    files = Files(folder)
    write_networks(files, detector)
    network = Network(detector).eval()
    for count in case["batch_sizes"]:
        batch = [torch.rand(3, SIDE, SIDE) for _ in range(count)]
        files.write(
            f"detector_{count}.onnx",
            torch.onnx.export,
            detector,
            (batch,),
            FILE,
            dynamo=False,
            opset_version=OPSET,
        )
        files.write(f"network_{count}.tflite", _to_tflite, network, torch.stack(batch), FILE)
    files.write("detector_1.tflite", _to_tflite, detector, [torch.rand(3, SIDE, SIDE)], FILE)
    (folder / "failed.json").write_text(json.dumps(files.failed, indent=2))
    versions = {"torch": torch.__version__, "torchvision": torchvision.__version__}
    (folder / "versions.json").write_text(json.dumps(versions))


def load_detector(folder: Path, case: dict[str, Any]) -> Any:
    """torchvision's detector with the weights of a folder."""
    detector = torchvision.models.detection.ssdlite320_mobilenet_v3_large(
        weights=None,
        weights_backbone=None,
        num_classes=case["num_classes"],
        **thresholds_of(case["detection"]),
    ).eval()
    with np.load(folder / "weights.npz") as weights:
        state = {name: torch.tensor(weights[name]) for name in weights}
    # Counters of training steps.
    counters = {name: of for name, of in detector.state_dict().items() if name not in state}
    assert all(name.endswith("num_batches_tracked") for name in counters)
    detector.load_state_dict(state | counters)
    return detector


def write_networks(files: Files, detector: Any) -> None:
    """Writes the networks without detection in ONNX, for any number of images."""
    # Two images, because an axis of one would become a constant.
    images = torch.rand(2, 3, SIDE, SIDE)
    pixels = torch.zeros(2, SIDE, SIDE, 3, dtype=torch.uint8)
    named = {"input_names": ["images"], "output_names": NAMES}
    for name, kind, example in (
        ("network.onnx", Network, images),
        ("network_pixels.onnx", FromPixels, pixels),
    ):
        files.write(
            name,
            torch.onnx.export,
            kind(detector).eval(),
            (example,),
            FILE,
            dynamo=True,
            external_data=False,
            dynamic_shapes=({0: torch.export.Dim("batch")},),
            **named,
        )
    files.write(
        "network_script.onnx",
        torch.onnx.export,
        Network(detector).eval(),
        (images,),
        FILE,
        dynamo=False,
        opset_version=OPSET,
        dynamic_axes={name: {0: "batch"} for name in ("images", *NAMES)},
        **named,
    )


def _to_tflite(module: nn.Module, example: Any, file: str) -> None:
    import litert_torch

    litert_torch.convert(module, (example,)).export(file)


if __name__ == "__main__":
    main()
