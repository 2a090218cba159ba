"""torchvision's SSD300 with random weights, and random batches for it, on the device."""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
import torchvision

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
IMAGE_SIZE, NUM_CLASSES, NUM_OBJECTS = 300, 21, 2.5
SCORE_THRESHOLD, CANDIDATES = 0.01, 1000
NUM_BATCHES = 4

Batch = tuple[list[torch.Tensor], list[dict[str, torch.Tensor]]]


def random_batches(batch_size: int, rng: np.random.Generator) -> list[Batch]:
    """Images of noise, and boxes and labels that fit them, on the device."""
    batches = []
    for _ in range(NUM_BATCHES):
        pixels = torch.rand(batch_size, 3, IMAGE_SIZE, IMAGE_SIZE, device=DEVICE)
        targets = []
        for _ in range(batch_size):
            count = 1 + rng.poisson(NUM_OBJECTS - 1)
            sizes = rng.uniform(0.1, 0.9, (count, 2)) * IMAGE_SIZE
            corners = rng.random((count, 2)) * (IMAGE_SIZE - sizes)
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
    """torchvision's SSD300 in one precision, compiled or not.

    Args:
      precision: "bfloat16", "tf32" or "float32".
      variant: "eager", or what is compiled: "parts" (backbone and head) or "whole".
      training: whether it is to be trained.
      batches: what it works on; the steps below get a number, and take batches in turn.
    """

    def __init__(self, precision: str, variant: str, training: bool, batches: list[Batch]):
        torch._dynamo.reset()
        torch.backends.cudnn.benchmark = True
        torch.backends.cudnn.allow_tf32 = precision == "tf32"
        torch.backends.cuda.matmul.allow_tf32 = precision == "tf32"
        self.half = precision == "bfloat16"
        self.batches = batches
        self.model = torchvision.models.detection.ssd300_vgg16(
            weights=None,
            weights_backbone=None,
            num_classes=NUM_CLASSES,
            score_thresh=SCORE_THRESHOLD,
            topk_candidates=400,
            detections_per_img=200,
        )
        self.model.to(DEVICE).train(training)
        if precision != "float32":  # tensor cores want channels last
            self.model.to(memory_format=torch.channels_last)
        self.run: Callable[..., Any] = self.model
        if variant == "parts":
            self.model.backbone.compile(dynamic=False)
            self.model.head.compile(dynamic=False)
        elif variant == "whole":
            self.run = torch.compile(self.model)
        if training:
            # Small enough that random weights and pictures leave the loss finite.
            self.optimizer = torch.optim.SGD(
                self.model.parameters(), lr=1e-6, momentum=0.9, weight_decay=5e-4, fused=True
            )
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

    def candidates(self, background: float = 0.0) -> float:
        """How many boxes of any class pass the score threshold, an image of the first batch.

        Args:
          background: what to add to the logits of the background.
        """
        logits = self.forward(0)["cls_logits"].float()
        logits = torch.cat([logits[..., :1] + background, logits[..., 1:]], dim=-1)
        return (logits.softmax(-1)[..., 1:] > SCORE_THRESHOLD).sum().item() / len(logits)

    def make_few(self) -> None:
        """Makes background likelier until there are `CANDIDATES` candidates an image."""
        low, high = 0.0, 100.0
        for _ in range(12):
            middle = (low + high) / 2
            if self.candidates(middle) > CANDIDATES:
                low = middle
            else:
                high = middle
        with torch.no_grad():
            for layer in self.model.head.classification_head.module_list:
                layer.bias.view(-1, NUM_CLASSES)[:, 0] += high
