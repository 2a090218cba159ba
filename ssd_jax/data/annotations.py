"""Annotations of a folder as read, and the one cleaning stage that makes records of them."""

import logging
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from ssd_jax.config.spelling import nearest
from ssd_jax.data.columns import Columns, Strings
from ssd_jax.data.folder_records import FolderRecords
from ssd_jax.data.problems import Problem, Problems
from ssd_jax.data.records import Annotation
from ssd_jax.errors import shown

logger = logging.getLogger(__name__)


class Annotations:
    """The annotations of images that lie in files, in columns.

    Attributes:
      origin: where they come from, for messages.
      category_ids: ids by name of the classes that the files declare; None where they do not.
      columns: as read; `classes` are indices into `names`.
      names: the classes that occur, in the order of their first occurrence.
    """

    def __init__(
        self,
        annotations: Iterable[Annotation],
        origin: str,
        category_ids: dict[str, int] | None = None,
    ):
        """Collects annotations; none of their objects is kept."""
        self.origin = origin
        self.category_ids = category_ids
        ids, paths, files, sizes, counts = [], [], [], [], []
        boxes, classes, difficult, crowd, area = (bytearray() for _ in range(5))
        known: dict[str, int] = {}
        for annotation in annotations:
            ids.append(annotation.image_id)
            paths.append(annotation.path)
            files.append(annotation.file)
            sizes += annotation.size or (np.nan, np.nan)
            counts.append(len(annotation.names))
            named = [known.setdefault(name, len(known)) for name in annotation.names]
            boxes += annotation.boxes.astype(np.float32).tobytes()
            classes += np.array(named, np.int32).tobytes()
            difficult += annotation.difficult.astype(bool).tobytes()
            crowd += annotation.crowd.astype(bool).tobytes()
            area += annotation.area.astype(np.float64).tobytes()
        self.names = tuple(known)
        self._files = Strings.of(files)
        self.columns = Columns(
            image_ids=Strings.of(ids),
            paths=Strings.of(paths),
            sizes=np.array(sizes, np.float64).reshape(-1, 2),
            splits=np.cumsum([0, *counts], dtype=np.int64),
            boxes=np.frombuffer(boxes, np.float32).reshape(-1, 4),
            classes=np.frombuffer(classes, np.int32),
            difficult=np.frombuffer(difficult, bool),
            crowd=np.frombuffer(crowd, bool),
            area=np.frombuffer(area, np.float64),
        )

    def __len__(self) -> int:
        return len(self.columns)

    def annotation(self, index: int) -> Annotation:
        """One of them, as it was read."""
        columns, objects = self.columns, self.columns.objects(index)
        return Annotation(
            image_id=columns.image_ids[index],
            path=columns.paths[index],
            file=self._files[index],
            size=columns.size(index),
            boxes=columns.boxes[objects],
            names=tuple(self.names[i] for i in columns.classes[objects].tolist()),
            difficult=columns.difficult[objects],
            crowd=columns.crowd[objects],
            area=columns.area[objects],
        )

    def with_classes(self, class_names: Sequence[str], problems: Problems) -> FolderRecords:
        """Cleans: clips boxes, drops those without area, and gives the others labels.

        Logs once how many boxes were dropped and clipped. Images left without objects stay; images
        with an object of another class are left out.

        Args:
          class_names: class i + 1 is called `class_names[i]`.
          problems: collects images with other classes.
        """
        read = self.columns
        boxes = np.clip(read.boxes, 0.0, 1.0)
        has_area = np.all(boxes[:, 2:] > boxes[:, :2], axis=1)
        clipped = np.any(boxes != read.boxes, axis=1) & has_area
        self._log("dropped %d boxes without area", ~has_area)
        self._log("clipped %d boxes that reach outside their image", clipped)
        images = self.known_classes(class_names, problems, has_area)
        labels = {name: i + 1 for i, name in enumerate(class_names)}
        by_name = np.array([labels.get(name, 0) for name in self.names], np.int32)
        kept = read.chosen(images, has_area)
        return FolderRecords(kept, np.clip(kept.boxes, 0.0, 1.0), by_name[kept.classes])

    def known_classes(
        self, class_names: Sequence[str], problems: Problems, objects: np.ndarray | None = None
    ) -> np.ndarray:
        """`[images] bool`: all objects have one of these classes; `problems` collects the others.

        Args:
          class_names: the classes.
          problems: what becomes of images with other classes.
          objects: `[objects] bool`: those that count; all where None.
        """
        strange = np.array([name not in class_names for name in self.names], bool)
        of_object = strange[self.columns.classes]
        if objects is not None:
            of_object = of_object & objects
        found = np.unique(self.columns.owners()[of_object])
        known = np.ones(len(self), bool)
        known[found] = False
        for index in found.tolist():
            own = self.columns.objects(index)
            names = {self.names[i] for i in self.columns.classes[own][of_object[own]].tolist()}
            image = Path(self.columns.paths[index]).name
            problems.add(
                self._files[index],
                self.columns.image_ids[index],
                [
                    Problem(
                        "class unknown",
                        f"an object of {image} has the class {shown(name)}, which is not among "
                        f"the classes ({', '.join(class_names)}){_nearest(name, class_names)}",
                    )
                    for name in sorted(names)
                ],
            )
        return known

    def _log(self, message: str, objects: np.ndarray) -> None:
        """Logs how many objects these are, and the first of their images."""
        if objects.any():
            images = np.unique(self.columns.owners()[objects]).tolist()
            listed = ", ".join(self.columns.image_ids[index] for index in images[:5])
            more = f" and {len(images) - 5} more images" if len(images) > 5 else ""
            logger.warning(f"%s: {message}, in %s%s", self.origin, objects.sum(), listed, more)


def _nearest(name: str, class_names: Sequence[str]) -> str:
    """The class that was probably meant."""
    near = nearest(name, class_names)
    return f"; the nearest is {near!r}" if near else ""
