"""The annotations of one source before cleaning, in columns."""

import collections
from collections.abc import Iterable, Sequence

import numpy as np

from ssd_jax.data.classes import Classes
from ssd_jax.data.cleaning import clean, relabelled
from ssd_jax.data.columns import Columns, Strings
from ssd_jax.data.folder_records import FolderRecords
from ssd_jax.data.image_bytes import read_span
from ssd_jax.data.problems import Problems
from ssd_jax.data.records import Annotation


class Annotations:
    """The annotations of images in files, before cleaning.

    Attributes:
      origin: the spec of the data, for messages.
      category_ids: the ids of declared classes by name, in their order; None without declared
        classes.
      columns: the unchanged values; `boxes` in the unit of each image, `classes` as indices into
        `names`.
      in_pixels: `[images] bool`: whether the boxes of the image are in pixels, not fractions.
      files: the annotation file of each image.
      names: the classes that occur, in the order of their first occurrence.
      is_clean: whether no cleaning is needed: boxes are fractions inside the image with some
        area, and the sizes of the images are right.
    """

    def __init__(
        self,
        annotations: Iterable[Annotation],
        origin: str,
        category_ids: dict[str, int] | None = None,
    ):
        """Collects annotations in columns."""
        self.origin = origin
        self.is_clean = False
        self.category_ids = category_ids
        ids, paths, files, sizes, spans, counts, in_pixels = [], [], [], [], [], [], []
        boxes, classes, difficult, crowd, area = (bytearray() for _ in range(5))
        known: dict[str, int] = {}
        for annotation in annotations:
            ids.append(annotation.image_id)
            paths.append(annotation.path)
            files.append(annotation.file)
            sizes += annotation.size or (np.nan, np.nan)
            spans += annotation.span or (0, 0)
            counts.append(len(annotation.names))
            in_pixels.append(annotation.unit == "pixels")
            named = [known.setdefault(name, len(known)) for name in annotation.names]
            boxes += annotation.boxes.astype(np.float64).tobytes()
            classes += np.array(named, np.int32).tobytes()
            difficult += annotation.difficult.astype(bool).tobytes()
            crowd += annotation.crowd.astype(bool).tobytes()
            area += annotation.area.astype(np.float64).tobytes()
        self.names = tuple(known)
        self.in_pixels = np.array(in_pixels, bool)
        self.files: Sequence[str] = Strings.of(files)
        self.columns = Columns(
            image_ids=Strings.of(ids),
            paths=Strings.of(paths),
            sizes=np.array(sizes, np.float64).reshape(-1, 2),
            spans=np.array(spans, np.int64).reshape(-1, 2),
            splits=np.cumsum([0, *counts], dtype=np.int64),
            boxes=np.frombuffer(boxes, np.float64).reshape(-1, 4),
            classes=np.frombuffer(classes, np.int32),
            difficult=np.frombuffer(difficult, bool),
            crowd=np.frombuffer(crowd, bool),
            area=np.frombuffer(area, np.float64),
        )

    @classmethod
    def of_columns(
        cls,
        columns: Columns,
        files: Sequence[str],
        names: Sequence[str],
        origin: str,
        category_ids: dict[str, int],
        is_clean: bool = False,
    ) -> "Annotations":
        """Makes annotations from columns, with boxes in fractions if `is_clean`, else in pixels."""
        made = cls((), origin, category_ids)
        made.columns, made.files, made.names = columns, files, tuple(names)
        made.in_pixels = np.full(len(columns), not is_clean)
        made.is_clean = is_clean
        return made

    def __len__(self) -> int:
        return len(self.columns)

    def annotation(self, index: int) -> Annotation:
        """One annotation, with the bytes of its image if that is inside a larger file.

        Raises:
          UserError: the larger file cannot be read.
        """
        columns, objects = self.columns, self.columns.objects(index)
        path, span = columns.paths[index], columns.span(index)
        return Annotation(
            image_id=columns.image_ids[index],
            path="" if span else path,
            file=self.files[index],
            size=columns.size(index),
            boxes=columns.boxes[objects],
            names=tuple(self.names[i] for i in columns.classes[objects].tolist()),
            difficult=columns.difficult[objects],
            crowd=columns.crowd[objects],
            area=columns.area[objects],
            unit="pixels" if self.in_pixels[index] else "fractions",
            encoded=read_span(path, span) if span else b"",
        )

    def num_objects(self) -> collections.Counter[str]:
        """The number of objects by class; 0 for declared classes without objects."""
        counts = np.bincount(self.columns.classes, minlength=len(self.names)).tolist()
        return collections.Counter(
            dict.fromkeys(self.category_ids or {}, 0) | dict(zip(self.names, counts, strict=True))
        )

    def with_classes(self, classes: Classes, problems: Problems) -> FolderRecords:
        """Cleaned records with labels; see `clean`."""
        if self.is_clean:
            return relabelled(self, classes, problems)
        return clean(self, classes, problems)
