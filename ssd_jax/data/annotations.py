"""The objects of one picture, as files on disk describe them."""

import dataclasses
import logging
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ssd_jax.config.spelling import nearest
from ssd_jax.data.problems import Problem, Problems
from ssd_jax.errors import shown

logger = logging.getLogger(__name__)

# Numbers beyond this, in pixels, are none of a picture.
MAX_PIXEL = 1e9


@dataclasses.dataclass(frozen=True)
class Annotation:
    """One picture and its objects.

    Attributes:
      image_id: what results call the picture.
      path: the image file.
      file: what describes it.
      size: width and height as that says, or None where it does not.
      boxes: `[objects, 4] xyxy` float32, fractions of the picture.
      names: the class name of each object.
      difficult: `[objects] bool`: trained on, but neither asked for nor counted in evaluation.
      crowd: `[objects] bool`: boxes round many objects; not trained on.
      area: `[objects]` float64: of each object's outline in square pixels, NaN where not given.
    """

    image_id: str
    path: Path
    file: Path
    size: tuple[float, float] | None
    boxes: np.ndarray
    names: tuple[str, ...]
    difficult: np.ndarray
    crowd: np.ndarray
    area: np.ndarray


def clean(annotations: Sequence[Annotation], origin: str) -> list[Annotation]:
    """Clips boxes to their picture, drops those without area, and logs once how many.

    Pictures left without objects stay.

    Args:
      annotations: as read.
      origin: where they come from, for the message.
    """
    cleaned, dropped_from, clipped_in, num_dropped, num_clipped = [], [], [], 0, 0
    for annotation in annotations:
        boxes = np.clip(annotation.boxes, 0.0, 1.0)
        clipped = np.any(boxes != annotation.boxes, axis=1)
        good = np.all(boxes[:, 2:] > boxes[:, :2], axis=1)
        if not good.all():
            num_dropped += int((~good).sum())
            dropped_from.append(annotation.image_id)
        if (clipped & good).any():
            num_clipped += int((clipped & good).sum())
            clipped_in.append(annotation.image_id)
        cleaned.append(
            dataclasses.replace(
                annotation,
                boxes=boxes[good],
                names=tuple(
                    name for name, keep in zip(annotation.names, good, strict=True) if keep
                ),
                difficult=annotation.difficult[good],
                crowd=annotation.crowd[good],
                area=annotation.area[good],
            )
        )
    if num_dropped:
        logger.warning(
            "%s: dropped %d boxes without area, in %s", origin, num_dropped, _first(dropped_from)
        )
    if num_clipped:
        logger.warning(
            "%s: clipped %d boxes that reach outside their picture, in %s",
            origin,
            num_clipped,
            _first(clipped_in),
        )
    return cleaned


def known_classes(
    annotations: Sequence[Annotation], class_names: Sequence[str], problems: Problems
) -> list[Annotation]:
    """Those of whose objects every class is among the names; `problems` is told of the others."""
    known = []
    for annotation in annotations:
        strange = sorted(set(annotation.names) - set(class_names))
        if strange:
            listed = ", ".join(class_names)
            problems.add(
                annotation.file,
                annotation.image_id,
                [
                    Problem(
                        "class unknown",
                        f"an object of {annotation.path.name} has the class {shown(name)}, which "
                        f"is not among the classes ({listed}){_nearest(name, class_names)}",
                    )
                    for name in strange
                ],
            )
        else:
            known.append(annotation)
    return known


def class_ids(annotation: Annotation, class_names: Sequence[str]) -> np.ndarray:
    """`[objects] int32` labels from 1."""
    return np.array([class_names.index(name) + 1 for name in annotation.names], np.int32)


def _nearest(name: str, class_names: Sequence[str]) -> str:
    """What the writer may have meant."""
    near = nearest(name, class_names)
    return f"; the nearest is {near!r}" if near else ""


def _first(names: list[str], limit: int = 5) -> str:
    listed = ", ".join(names[:limit])
    return listed if len(names) <= limit else f"{listed} and {len(names) - limit} more pictures"
