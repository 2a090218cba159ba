"""What a prediction has done, and what it found, in words."""

import math
from collections.abc import Mapping
from typing import NamedTuple

from ssd_jax.errors import counted, first_names
from ssd_jax.inference.choice import LeftOut


class Done(NamedTuple):
    """What a prediction has done.

    Attributes:
      images: the images in files of their own.
      frames: the frames of videos, streams and cameras.
      failed: the files that could not be read.
      with_objects: the images and frames in which something was found.
      objects: how many objects were found, by class; those of each frame count anew.
      best_left_out: the best detection below the threshold.
      least_score: that a detection needs whatever the threshold, by `config.detection`.
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
        """How many objects were found in how many images; where there is none, the best score."""
        if total := sum(self.objects.values()):
            by_count = sorted(self.objects.items(), key=lambda item: (-item[1], item[0]))
            names = first_names([f"{count:,} {name}" for name, count in by_count], 8)
            number = self.images + self.frames
            searched = counted(number, "image" if self.images else "frame")
            searched += " and frames" if self.images and self.frames else ""
            return f"{counted(total, 'object')} in {self.with_objects:,} of {searched}: {names}"
        if self.best_left_out is None:
            return (
                f"no object: none has a score above {self.least_score:g}, the least that the "
                "detector gives (its config.detection.score_threshold)"
            )
        score, name, file = self.best_left_out
        lower = math.floor(100 * score) / 100
        return (
            f"no object reaches the threshold: the best score is {score:.3g} ({name} in {file}), "
            f"which --score_threshold={lower:g} shows"
        )
