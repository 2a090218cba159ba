"""The detections of an image, and the accepted types of images."""

import dataclasses
import os
from pathlib import Path
from typing import Any, TypeGuard

import numpy as np
from PIL import Image

from ssd_jax.errors import UserError, missing_package
from ssd_jax.images.drawing import draw_boxes
from ssd_jax.images.opening import open_image, to_rgb

AnyImage = str | Path | Image.Image | np.ndarray


@dataclasses.dataclass(frozen=True, eq=False)
class Detections:
    """The objects of one image, the best first.

    Attributes:
      boxes: `[objects, 4] xyxy` in pixels of the upright image.
      scores: `[objects]` in [0, 1].
      labels: `[objects]` from 1.
      class_names: class i + 1 has the name `class_names[i]`.
      category_ids: class i + 1 has the id `category_ids[i]` in results.
      image: the input of the detector.
      size: height and width of the upright image.
      tracks: `[objects]` the number of each object in its video, from 1; 0 for objects without a
        number yet. None without tracking.
    """

    boxes: np.ndarray
    scores: np.ndarray
    labels: np.ndarray
    class_names: tuple[str, ...]
    category_ids: tuple[int, ...]
    image: AnyImage = dataclasses.field(repr=False)
    size: tuple[int, int]
    tracks: np.ndarray | None = None

    @property
    def names(self) -> tuple[str, ...]:
        """The class of each object."""
        return tuple(self.class_names[label - 1] for label in self.labels)

    def __len__(self) -> int:
        return len(self.labels)

    def select(self, chosen: np.ndarray) -> "Detections":
        """A selection of detections: `chosen` is `[objects] bool`."""
        return dataclasses.replace(
            self,
            boxes=self.boxes[chosen],
            scores=self.scores[chosen],
            labels=self.labels[chosen],
            tracks=None if self.tracks is None else self.tracks[chosen],
        )

    def draw(self) -> Image.Image:
        """Draws the image with boxes, names and scores; an image given as a path is read again.

        Small images are enlarged. If names would cover objects, a legend below the image replaces
        them: see `draw_boxes`.
        """
        image = open_as_rgb(self.image)
        if image is self.image:
            image = image.copy()  # the user's array stays unchanged
            image.info = {}
        return draw_boxes(image, self.boxes, self.labels, self.class_names, self.scores)

    def to_coco(self, image_id: int = 1, first_id: int = 1) -> list[dict[str, Any]]:
        """Converts to annotations in COCO's format: `bbox` is x, y, width, height in pixels.

        Tracked objects have their number as `track_id`. Pixels are rounded to three decimals,
        scores to six.

        Args:
          image_id: the number of the image.
          first_id: the number of the first annotation; numbers must be unique in a file.
        """
        tracks = np.zeros(len(self), int) if self.tracks is None else self.tracks
        return [
            {
                "id": number,
                "image_id": image_id,
                "category_id": self.category_ids[label - 1],
                "bbox": [round(x, 3), round(y, 3), round(x_max - x, 3), round(y_max - y, 3)],
                "area": round((x_max - x) * (y_max - y), 3),
                "iscrowd": 0,
                "score": round(score, 6),
            }
            | ({"track_id": track} if track else {})
            for number, ((x, y, x_max, y_max), score, label, track) in enumerate(
                zip(
                    self.boxes.tolist(),
                    self.scores.tolist(),
                    self.labels.tolist(),
                    tracks.tolist(),
                    strict=True,
                ),
                start=first_id,
            )
        ]

    def to_supervision(self) -> Any:
        """Converts to `supervision.Detections`, in which classes begin at 0.

        Raises:
          UserError: the package is not installed.
        """
        try:
            import supervision
        except ImportError as error:
            raise missing_package("supervision") from error
        return supervision.Detections(
            xyxy=self.boxes.astype(np.float32),
            confidence=self.scores,
            class_id=self.labels - 1,
            data={"class_name": np.array(self.names, dtype=str)},
        )


def is_rgb(image: AnyImage) -> TypeGuard[np.ndarray]:
    """Whether an image is a `[height, width, 3]` uint8 array, the type for the network."""
    return (
        isinstance(image, np.ndarray)
        and image.dtype == np.uint8
        and image.ndim == 3
        and image.shape[2] == 3
        and image.size > 0
    )


def open_as_rgb(image: AnyImage) -> Image.Image:
    """Opens a path, a PIL image or an array as an upright RGB image.

    Raises:
      UserError: the image cannot be read, or has another type.
    """
    if isinstance(image, str | Path):
        if os.path.isdir(image):
            raise UserError(
                f"{image} is a folder, but must be an image: pass a list of its files, or use "
                "ssd-jax predict, which takes folders"
            )
        return open_image(image)
    if isinstance(image, Image.Image):
        try:
            return to_rgb(image)
        except (OSError, ValueError) as error:
            raise UserError(f"{image} cannot be read: {error}") from error
    if not isinstance(image, np.ndarray):
        raise UserError(
            f"an image is of the type {type(image).__name__}, but must be a path, a PIL image "
            "or a NumPy array"
        )
    if not is_rgb(image):
        raise UserError(
            f"an image is an array of {image.dtype} and shape {image.shape}, but must be "
            "uint8 and [height, width, 3], in the order red, green, blue"
        )
    return Image.fromarray(image)
