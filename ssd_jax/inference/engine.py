"""What runs the network of a detector: JAX, or an engine that an exported file needs."""

from typing import Any, NamedTuple, Protocol

import numpy as np

# What to do where a batch does not fit into the memory.
FEWER = "detect in fewer at a time (--batch_size, or a shorter list)"


class Description(NamedTuple):
    """A detector in words.

    Attributes:
      class_names: class i + 1 is called `class_names[i]`.
      category_ids: what results call the classes, in the same order.
      side: of the square images that the network is given, in pixels.
      least_score: detections have a higher one.
    """

    class_names: tuple[str, ...]
    category_ids: tuple[int, ...]
    side: int
    least_score: float


class Found(NamedTuple):
    """The detections of a batch on the host, the best first.

    Attributes:
      boxes: `[batch, detections, 4] xyxy`, in parts of the image.
      scores: `[batch, detections]`.
      labels: `[batch, detections]` from 1; 0 is none.
    """

    boxes: np.ndarray
    scores: np.ndarray
    labels: np.ndarray


class Engine(Protocol):
    """Runs the network of one detector, suppression included.

    Several threads may use it at a time.

    Attributes:
      description: of the detector.
    """

    description: Description

    def check_batch(self, batch_size: int) -> None:
        """Raises a `UserError` where a batch of this size cannot fit into the memory."""
        ...

    def start(self, pixels: np.ndarray, batch_size: int) -> Any:
        """Starts to detect, and does not wait.

        What a batch size needs is prepared at its first use.

        Args:
          pixels: `[images, side, side, 3] uint8` RGB, `batch_size` images or fewer.
          batch_size: as many images as calls have, but for the last one.

        Returns:
          What `fetch` takes.

        Raises:
          UserError: the memory ended.
        """
        ...

    def fetch(self, started: Any) -> Found:
        """Waits for what was started; where there were fewer images, the rest is padding.

        Raises:
          UserError: the memory ended.
        """
        ...
