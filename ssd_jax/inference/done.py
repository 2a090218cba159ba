"""The result of a prediction, and its description in words."""

import math
from collections.abc import Mapping
from typing import NamedTuple

from ssd_jax.errors import counted, first_names
from ssd_jax.inference.choice import LeftOut


class Done(NamedTuple):
    """The result of a prediction, in numbers.

    Attributes:
      images: the number of image files.
      frames: the number of frames of videos, streams and cameras.
      failed: the number of files that could not be read.
      with_objects: the number of images and frames with objects.
      objects: the number of objects by class; each frame counts separately.
      best_left_out: the best detection below the threshold.
      least_score: the lowest score of the detector, `config.detection.score_threshold`.
    """

    images: int
    frames: int
    failed: int
    with_objects: int
    objects: Mapping[str, int]
    best_left_out: LeftOut | None
    least_score: float

    def __str__(self) -> str:
        done = [counted(self.images, "image")] if self.images or not self.frames else []
        done += [f"{counted(self.frames, 'frame')} of videos"] if self.frames else []
        return f"{' and '.join(done)} done, {counted(self.failed, 'file')} failed"

    def describe_found(self) -> str:
        """Describes the number of objects and images; without objects, the best score."""
        if total := sum(self.objects.values()):
            by_count = sorted(self.objects.items(), key=lambda item: (-item[1], item[0]))
            names = first_names([f"{count:,} {name}" for name, count in by_count], 8)
            number = self.images + self.frames
            searched = counted(number, "image" if self.images else "frame")
            searched += " and frames" if self.images and self.frames else ""
            return f"{counted(total, 'object')} in {self.with_objects:,} of {searched}: {names}"
        if self.best_left_out is None:
            return (
                f"no object: none has a score above {self.least_score:g}, the limit of the "
                "detector (its config.detection.score_threshold)"
            )
        score, name, file = self.best_left_out
        lower = math.floor(100 * score) / 100
        return (
            f"no object reaches the threshold: the best score is {score:.3g} ({name} in {file}); "
            f"--score_threshold={lower:g} shows it"
        )
