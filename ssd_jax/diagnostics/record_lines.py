"""Records as training reads them, for comparison by programs: one JSON object per image."""

from typing import NamedTuple

import numpy as np

from ssd_jax.data.classes import Classes
from ssd_jax.data.datasets import Part
from ssd_jax.data.folder_records import FolderRecords
from ssd_jax.data.records import Annotation
from ssd_jax.diagnostics.image_findings import OUTSIDE, ImageContent


class RecordLine(NamedTuple):
    """One line.

    Attributes:
      line: see `RecordLines`.
      num_learnt: the number of objects that are trained on.
    """

    line: dict[str, object]
    num_learnt: int


class RecordLines:
    """Makes a line for each image of a source that training uses.

    A line has `file` (the image file, or a description of an image inside a larger file),
    `image_id`, `split` (null = none), `width` and `height` of the upright image, and
    lists with an entry for each object: `boxes` (x_min, y_min, x_max, y_max in pixels, rounded to 3
    decimals), `names`, `difficult`, `crowd`, `clipped` (the box reached outside the image) and
    `twice` (an earlier object of the image is the same).
    """

    def __init__(self, split: str, classes: Classes, cleaned: Part | None):
        """Uses the cleaned records of the source; None if training uses none of them."""
        self._split = split
        self._classes = classes
        self._cleaned = cleaned
        self._next = 0

    def record(self, index: int, annotation: Annotation, look: ImageContent) -> RecordLine | None:
        """The line of an image; None if training leaves the image out.

        Args:
          index: of the image in the source; it increases from call to call.
          annotation: before cleaning.
          look: the content of its image.
        """
        if isinstance(self._cleaned, FolderRecords):
            if self._next == len(self._cleaned):
                return None
            columns = self._cleaned.columns
            if columns.image_ids[self._next] != annotation.image_id or (
                annotation.path and columns.paths[self._next] != annotation.path
            ):
                return None  # cleaning removed it
            index, self._next = self._next, self._next + 1
        return None if look.error or self._cleaned is None else self._line(annotation, look, index)

    def _line(self, annotation: Annotation, look: ImageContent, index: int) -> RecordLine:
        assert self._cleaned is not None
        if isinstance(self._cleaned, FolderRecords):
            columns = self._cleaned.columns
            own = columns.objects(index)
            boxes, labels = columns.boxes[own], columns.classes[own]
            difficult, crowd = columns.difficult[own], columns.crowd[own]
        else:
            record = self._cleaned[index]
            boxes, labels = record.boxes, record.labels
            difficult, crowd = record.difficult, record.crowd
        height, width = look.size
        clipped, twice = _flags(annotation, self._classes, look.size, len(boxes))
        line = {
            "file": annotation.path or annotation.file,
            "image_id": annotation.image_id,
            "split": self._split or None,
            "width": width,
            "height": height,
            "boxes": (boxes.astype(float) * (width, height, width, height)).round(3).tolist(),
            "names": [self._classes.names[label - 1] for label in labels.tolist()],
            "difficult": difficult.tolist(),
            "crowd": crowd.tolist(),
            "clipped": clipped.tolist(),
            "twice": twice.tolist(),
        }
        return RecordLine(line, int(np.sum(~crowd)))


def _flags(
    annotation: Annotation, classes: Classes, size: tuple[int, int], count: int
) -> tuple[np.ndarray, np.ndarray]:
    """`[objects] bool` each: clipped, and twice, of the objects that cleaning keeps."""
    boxes = annotation.fractions(size)
    used = np.array([classes.label(name) > 0 for name in annotation.names], bool)
    inside = np.clip(boxes, 0.0, 1.0)
    kept = used & np.all(inside[:, 2:] > inside[:, :2], axis=1)
    height, width = size
    beyond = np.abs(boxes - inside) * (width, height, width, height)
    seen: set[tuple[object, ...]] = set()
    twice = np.zeros(len(boxes), bool)
    for i, (name, box) in enumerate(zip(annotation.names, boxes.tolist(), strict=True)):
        twice[i] = (name, *box) in seen
        seen.add((name, *box))
    if kept.sum() != count:  # the records were read in another way and cannot be compared
        return np.zeros(count, bool), np.zeros(count, bool)
    return np.any(beyond > OUTSIDE, axis=1)[kept], twice[kept]
