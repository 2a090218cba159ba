"""An SSD of torchvision with random weights, and random batches for it, on the device."""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import nn
from torchvision.models.detection.ssd import SSD

from tools.torchvision_networks import NUM_CLASSES

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
IMAGE_SIZE, NUM_OBJECTS = 300, 2.5
CANDIDATES = 1000
NUM_BATCHES = 4

Batch = tuple[list[torch.Tensor], list[dict[str, torch.Tensor]]]


def random_batches(
    batch_size: int, rng: np.random.Generator, image_size: int = IMAGE_SIZE
) -> list[Batch]:
    """Square images of noise, and boxes and labels that fit them, on the device."""
    batches = []
    for _ in range(NUM_BATCHES):
        pixels = torch.rand(batch_size, 3, image_size, image_size, device=DEVICE)
        targets = []
        for _ in range(batch_size):
            count = 1 + rng.poisson(NUM_OBJECTS - 1)
            sizes = rng.uniform(0.1, 0.9, (count, 2)) * image_size
            corners = rng.random((count, 2)) * (image_size - sizes)
            boxes = np.concatenate([corners, corners + sizes], axis=1).astype(np.float32)
            labels = rng.integers(1, NUM_CLASSES, count)
            targets.append(
                {
                    "boxes": torch.from_numpy(boxes).to(DEVICE),
                    "labels": torch.from_numpy(labels).to(DEVICE),
                }
            )
        batches.append((list(pixels), targets))
    return batches


class Model:
    """A detector in one precision, compiled or not.

    Args:
      model: the detector.
      precision: "bfloat16", "tf32" or "float32".
      variant: "eager"; "parts" (backbone and head are compiled); "whole" (the model is compiled);
        or "channels_last", eager in that memory format. Precisions other than float32 always use
        that format.
      training: whether it is trained.
      batches: the batches; the steps below get a number, and use the batches in turn.
    """

    def __init__(
        self, model: SSD, precision: str, variant: str, training: bool, batches: list[Batch]
    ):
        torch._dynamo.reset()
        torch.backends.cudnn.benchmark = True
        torch.backends.cudnn.allow_tf32 = precision == "tf32"
        torch.backends.cuda.matmul.allow_tf32 = precision == "tf32"
        self.half = precision == "bfloat16"
        self.batches = batches
        self.model = model
        self.model.to(DEVICE).train(training)
        # Tensor cores need the format channels_last.
        if precision != "float32" or variant == "channels_last":
            self.model.to(memory_format=torch.channels_last)
        self.run: Callable[..., Any] = self.model
        if variant == "parts":
            self.model.backbone.compile(dynamic=False)
            self.model.head.compile(dynamic=False)
        elif variant == "whole":
            self.run = torch.compile(self.model)
        if training:
            # Small enough that the loss stays finite with random weights and images.
            self.optimizer = torch.optim.SGD(
                self.model.parameters(), lr=1e-6, momentum=0.9, weight_decay=5e-4, fused=True
            )
            for parameter in self.model.parameters():  # else the first step makes them
                self.optimizer.state[parameter]["momentum_buffer"] = torch.zeros_like(parameter)
            self.loss = torch.zeros(())
        else:
            with torch.inference_mode():
                self.inputs = [self.model.transform(images)[0].tensors for images, _ in batches]

    def autocast(self) -> torch.autocast:
        return torch.autocast(DEVICE.type, torch.bfloat16, enabled=self.half)

    def train(self, number: int) -> None:
        images, targets = self.batches[number % NUM_BATCHES]
        with self.autocast():
            self.loss = sum(self.run(images, targets).values())
        self.loss.backward()
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)

    def predict(self, number: int) -> list[dict[str, torch.Tensor]]:
        with torch.inference_mode(), self.autocast():
            return self.run(self.batches[number % NUM_BATCHES][0])

    def forward(self, number: int) -> dict[str, torch.Tensor]:
        with torch.inference_mode(), self.autocast():
            features = self.model.backbone(self.inputs[number % NUM_BATCHES])
            return self.model.head(list(features.values()))

    def candidates(self) -> float:
        """The number of boxes per image, over all classes, that pass the score threshold."""
        return self._candidates(self.forward(0)["cls_logits"].float(), 0.0)

    def make_few(self) -> None:
        """Makes background more likely until there are `CANDIDATES` candidates per image.

        Logits are scaled to a standard deviation of 1: those of random weights may differ so little
        that rounding decides which boxes pass.
        """
        logits = self.forward(0)["cls_logits"].float()
        scale = 1 / logits.std()
        logits = logits * scale
        low, high = 0.0, 100.0
        for _ in range(40):
            middle = (low + high) / 2
            if self._candidates(logits, middle) > CANDIDATES:
                low = middle
            else:
                high = middle
        with torch.no_grad():
            for layer in self.model.head.classification_head.module_list:
                last = layer[-1] if isinstance(layer, nn.Sequential) else layer
                last.weight *= scale
                last.bias *= scale
                last.bias.view(-1, NUM_CLASSES)[:, 0] += high

    def _candidates(self, logits: torch.Tensor, background: float) -> float:
        """The same for these logits, with a number added to those of the background."""
        logits = torch.cat([logits[..., :1] + background, logits[..., 1:]], dim=-1)
        scores = logits.softmax(-1)[..., 1:]
        return (scores > self.model.score_thresh).sum().item() / len(logits)
