"""The type of a part of a data set before classes are chosen."""

import collections
from typing import Protocol

from ssd_jax.data.classes import Classes
from ssd_jax.data.datasets import Part
from ssd_jax.data.problems import Problems
from ssd_jax.data.records import Annotation


class ReadPart(Protocol):
    """A part of a data set before classes are chosen; objects have the part's class names.

    Attributes:
      origin: the spec, for messages.
      names: the classes that occur or are declared.
    """

    origin: str
    names: tuple[str, ...]

    @property
    def category_ids(self) -> dict[str, int] | None:
        """The ids of declared classes by name; None without declared classes."""
        ...

    def __len__(self) -> int: ...

    def annotation(self, index: int) -> Annotation:
        """One image, before cleaning."""
        ...

    def num_objects(self) -> collections.Counter[str] | None:
        """The number of objects by class; None if not known before reading."""
        ...

    def with_classes(self, classes: Classes, problems: Problems) -> Part:
        """Cleaned records with labels; `problems` handles damaged images."""
        ...
