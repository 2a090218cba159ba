"""The interface of engines that run a detector: JAX, or others for exported files."""

from typing import Any, NamedTuple, Protocol

import numpy as np

# The fix for a batch that does not fit into the memory.
FEWER = "detect in fewer at a time (--batch_size, or a shorter list)"


class Description(NamedTuple):
    """The description of a detector.

    Attributes:
      class_names: class i + 1 has the name `class_names[i]`.
      category_ids: the ids of the classes in results, in the same order.
      side: the side of the network's square input images, in pixels.
      least_score: all detections have higher scores.
    """

    class_names: tuple[str, ...]
    category_ids: tuple[int, ...]
    side: int
    least_score: float


class Found(NamedTuple):
    """The detections of a batch on the host, the best first.

    Attributes:
      boxes: `[batch, detections, 4] xyxy`, as fractions of the image.
      scores: `[batch, detections]`.
      labels: `[batch, detections]` from 1; 0 is padding.
    """

    boxes: np.ndarray
    scores: np.ndarray
    labels: np.ndarray


class Engine(Protocol):
    """Runs the network of one detector, including suppression.

    Several threads may use it at a time.

    Attributes:
      description: the description of the detector.
    """

    description: Description

    def check_batch(self, batch_size: int) -> None:
        """Raises a `UserError` if a batch of this size does not fit into the memory."""
        ...

    def start(self, pixels: np.ndarray, batch_size: int) -> Any:
        """Starts detection in a batch, without waiting for it.

        The first use of a batch size takes longer, for preparations like compilation.

        Args:
          pixels: `[images, side, side, 3] uint8` RGB, `batch_size` images or fewer.
          batch_size: the number of images in all calls except the last.

        Returns:
          The argument of `fetch`.

        Raises:
          UserError: out of memory.
        """
        ...

    def fetch(self, started: Any) -> Found:
        """Waits for a batch; an incomplete batch is padded.

        Raises:
          UserError: out of memory.
        """
        ...
