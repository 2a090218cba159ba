"""The type of a set as a format reads it, with the names of its own classes."""

import collections
from typing import Protocol

from ssd_jax.data.classes import Classes
from ssd_jax.data.datasets import Part
from ssd_jax.data.problems import Problems
from ssd_jax.data.records import Annotation


class ReadPart(Protocol):
    """A set as a format reads it, with the names of its own classes.

    Attributes:
      origin: the spec, for messages.
      names: the classes that occur or are declared.
    """

    origin: str
    names: tuple[str, ...]

    @property
    def category_ids(self) -> dict[str, int] | None:
        """Ids by name of the classes that the set declares; None where it declares none."""
        ...

    def __len__(self) -> int: ...

    def annotation(self, index: int) -> Annotation:
        """One image as it was read."""
        ...

    def num_objects(self) -> collections.Counter[str] | None:
        """The number of objects by class; None where that is not known before they are read."""
        ...

    def with_classes(self, classes: Classes, problems: Problems) -> Part:
        """Cleaned records with labels; damaged images are left out as `problems` says."""
        ...
