"""A trained detector in three lines of Python.

detector = Detector.from_pretrained("my_detector")
detections = detector("picture.jpg")
print(detections.names, detections.scores, detections.boxes)
"""

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import jax
import numpy as np
from PIL import Image, ImageOps

from ssd_jax.errors import UserError
from ssd_jax.evaluation.evaluator import make_predict_step
from ssd_jax.trained import Trained, load_folder, load_workdir

Picture = str | Path | Image.Image | np.ndarray


@dataclasses.dataclass(frozen=True)
class Detections:
    """The objects of one picture, the best first.

    Attributes:
      boxes: `[objects, 4] xyxy` in pixels of the picture.
      scores: `[objects]` in [0, 1].
      labels: `[objects]` from 1.
      names: the class of each object.
    """

    boxes: np.ndarray
    scores: np.ndarray
    labels: np.ndarray
    names: tuple[str, ...]


class Detector:
    """Detects objects in pictures of any size; compiled once for each number of pictures.

    Attributes:
      class_names: class i + 1 is called `class_names[i]`.
    """

    def __init__(self, trained: Trained):
        settings = trained.config.detection
        self.class_names = trained.class_names
        self._size = trained.network.tiling.image_size
        self._variables = jax.device_put(trained.variables)
        self._predict = jax.jit(
            make_predict_step(
                trained.network,
                score_threshold=settings.score_threshold,
                iou_threshold=settings.iou_threshold,
                boxes_per_class=settings.boxes_per_class,
                detections_per_image=settings.detections_per_image,
            )
        )

    @classmethod
    def from_workdir(cls, workdir: str | Path, step: int | None = None) -> "Detector":
        """The detector of a run; `step` names a checkpoint, the last one where None."""
        return cls(load_workdir(Path(workdir), step))

    @classmethod
    def from_pretrained(cls, folder: str | Path) -> "Detector":
        """The detector of a folder that `convert.py export --to=safetensors` wrote."""
        return cls(load_folder(Path(folder)))

    def __call__(
        self, pictures: Picture | Sequence[Picture], score_threshold: float = 0.0
    ) -> Detections | list[Detections]:
        """Detects objects.

        Args:
          pictures: one or several: paths, PIL images, or `[height, width, 3]` uint8 RGB arrays.
          score_threshold: detections with a lower score are left out.

        Raises:
          UserError: a picture cannot be read or is none of these.
        """
        if isinstance(pictures, str | Path | Image.Image | np.ndarray):
            return self([pictures], score_threshold)[0]
        images = [_open(picture) for picture in pictures]
        if not images:
            return []
        size = (self._size, self._size)
        batch = np.stack([image.resize(size, Image.Resampling.BILINEAR) for image in images])
        found = jax.device_get(self._predict(self._variables, batch))
        detections = []
        for image, boxes, scores, labels in zip(images, *found, strict=True):
            shown = (labels > 0) & (scores >= score_threshold)
            detections.append(
                Detections(
                    boxes=np.clip(boxes[shown], 0, 1) * np.array(image.size * 2, np.float32),
                    scores=scores[shown],
                    labels=labels[shown],
                    names=tuple(self.class_names[label - 1] for label in labels[shown]),
                )
            )
        return detections


def _open(picture: Picture) -> Image.Image:
    if isinstance(picture, np.ndarray):
        if picture.dtype != np.uint8 or picture.ndim != 3 or picture.shape[2] != 3:
            raise UserError(
                f"a picture is an array of {picture.dtype} and shape {picture.shape}, but must be "
                "uint8 and [height, width, 3], in the order red, green, blue"
            )
        return Image.fromarray(picture)
    try:
        image = picture if isinstance(picture, Image.Image) else Image.open(picture)
        return ImageOps.exif_transpose(image).convert("RGB")
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise UserError(f"{picture} cannot be read: {error}") from error
