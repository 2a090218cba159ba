"""The classes of a training: which names of the data become which class, and which are left out."""

import dataclasses
import logging
import re
from collections.abc import Iterable, Mapping, Sequence

from ssd_jax.config.spelling import nearest
from ssd_jax.errors import UserError, first_names

logger = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class Classes:
    """The classes, in order, and the names that the data has for them.

    Attributes:
      names: class i + 1 is called `names[i]`.
      renamed: names of the data by their new names; "" leaves their objects out.
    """

    names: tuple[str, ...]
    renamed: Mapping[str, str] = dataclasses.field(default_factory=dict)

    def label(self, name: str) -> int:
        """The label of a name of the data; 0 where its objects are left out."""
        name = self.renamed.get(name, name)
        return self.names.index(name) + 1 if name in self.names else 0

    def misspelt(self, name: str) -> str:
        """The class that a name of the data is a misspelling of; "" where it is a name of its own.

        "Dog", "dgo" and "traffic_light" are taken for misspellings, "car" beside "cat" is not.
        """
        if name in self.renamed or name in self.names:
            return ""
        return next((known for known in self.names if is_misspelt(name, known)), "")


def is_misspelt(name: str, known: str) -> bool:
    """Whether names differ in capitals, blanks and signs, exchanged letters or a lost letter."""
    first, second = letters(name), letters(known)
    if first == second:
        return bool(first)
    if len(first) == len(second) >= 3:
        differing = [i for i in range(len(first)) if first[i] != second[i]]
        if len(differing) == 2 and differing[1] == differing[0] + 1:
            i, j = differing
            return first[i] == second[j] and first[j] == second[i]
    short, long = sorted((first, second), key=len)
    if len(short) >= 5 and len(long) == len(short) + 1:
        return any(long[:i] + long[i + 1 :] == short for i in range(len(long)))
    return False


def letters(name: str) -> str:
    """A name without capitals, blanks and signs."""
    return re.sub(r"[\W_]+", "", name.casefold())


def check_class_list(class_names: Sequence[str], field: str = "config.data.classes") -> None:
    """Refuses a list of classes that names one twice.

    Args:
      class_names: the list.
      field: where it is given, for the message.

    Raises:
      UserError: names it.
    """
    seen = set()
    for name in class_names:
        if name in seen:
            raise UserError(f"{field} names the class {name!r} twice: name it once")
        seen.add(name)


def check_chosen(class_names: Sequence[str], there: Iterable[str], origin: str) -> None:
    """Refuses a chosen class that the data lacks where one that is not chosen was probably meant.

    A class without any object is told.

    Raises:
      UserError: names both.
    """
    there = set(there)
    absent = [name for name in class_names if name not in there]
    for name in absent:
        near = nearest(name, there - set(class_names))
        if near:
            raise UserError(
                f"config.data.classes names the class {name!r}, but {origin} has no object of it: "
                f"did you mean {near!r}?"
            )
    if absent:
        logger.warning("%s has no object of the class %s", origin, first_names(absent, 20))


def check_known(names: Iterable[str], known: Iterable[str], field: str, origin: str) -> None:
    """Refuses names of classes that the data does not have.

    Args:
      names: what a field of the config names.
      known: the classes that occur in the data, or that it declares.
      field: the field, for the message.
      origin: the data, for the message.

    Raises:
      UserError: names the first of them, and the class that was probably meant.
    """
    known = sorted(set(known))
    for name in names:
        if name not in known:
            near = nearest(name, known)
            meant = f": did you mean {near!r}?" if near else ""
            there = first_names(known, 20)
            raise UserError(
                f"{field} names the class {name!r}, but {origin} has no such class{meant} "
                f"(it has {there or 'none'})"
            )
